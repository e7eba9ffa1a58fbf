"""Pickled values, stored by their digest."""

from __future__ import annotations

import os

import pytest

from milepost.errors import JournalCorruptError, JournalError
from milepost.journal.experiment import Experiment
from milepost.journal.objects import Objects, digest
from milepost.storage import names
from milepost.testing.interposer import EXIT_CODE, Fault, Interposer, run_in_child


def path_of(experiment: Experiment, name: str) -> str:
    return os.path.join(experiment.home, "objects", name)


def test_equal_bytes_are_stored_once(experiment: Experiment) -> None:
    """The digest is the name; a second put, also by another process, writes nothing."""
    objects = Objects(experiment.path)
    name = objects.put(b"value")
    assert name == digest(b"value")
    with Interposer() as steps:
        assert objects.put(b"value") == name
    assert steps.count == 0
    with Interposer() as steps:
        assert Objects(experiment.path).put(b"value") == name
    assert [step.operation for step in steps.steps] == ["fsync_dir"]
    assert os.listdir(os.path.join(experiment.home, "objects")) == [name]
    assert objects.get(name) == b"value"


def test_values_travel_by_cloudpickle(experiment: Experiment) -> None:
    """A closure comes back working."""
    offset = 3
    objects = Objects(experiment.path)
    assert objects.get_value(objects.put_value(lambda x: x + offset))(1) == 4


def test_a_missing_or_damaged_object_is_named(experiment: Experiment) -> None:
    """Reading never returns other bytes than were stored."""
    objects = Objects(experiment.path)
    name = objects.put(b"value")
    with pytest.raises(JournalError, match="cannot be read"):
        objects.get(digest(b"other"))
    with open(path_of(experiment, name), "wb") as file:
        file.write(b"valuE")
    with pytest.raises(JournalCorruptError, match="its digest differs"):
        objects.get(name)
    for odd in ("", "../experiment.json", "x" * 32, name.upper() + "0"):
        with pytest.raises(JournalError, match="is not the digest"):
            objects.get(odd)


def test_what_a_power_loss_left_is_written_again(experiment: Experiment) -> None:
    """A file of another length does not count as stored."""
    objects = Objects(experiment.path)
    with open(path_of(experiment, digest(b"value")), "wb"):
        pass
    assert objects.get(objects.put(b"value")) == b"value"


def drafts(experiment: Experiment) -> set[str]:
    """Files of writes that did not come to their end."""
    directory = os.path.dirname(path_of(experiment, digest(b"")))
    return {name for name in os.listdir(directory) if names.is_leftover(name)}


def test_a_put_may_fail_at_any_step(experiment: Experiment) -> None:
    """After a death or a full disk at each step, the object is whole or not there."""
    for at in range(1, 5):
        data = b"value%d" % at
        code = run_in_child(
            lambda data=data: Objects(experiment.path).put(data), Interposer(Fault("torn", at))
        )
        assert code == EXIT_CODE
        torn = drafts(experiment)
        if os.path.exists(path_of(experiment, digest(data))):
            assert Objects(experiment.path).get(digest(data)) == data
        with Interposer(Fault("enospc", at)), pytest.raises(JournalError, match="cannot store a"):
            Objects(experiment.path).put(b"full%d" % at)
        assert not drafts(experiment) - torn, "a failed write leaves no draft behind"
        objects = Objects(experiment.path)
        assert objects.get(objects.put(data)) == data
