"""A new run begins only where nothing is recorded and nobody else is beginning."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from milepost.control.beginning import begin
from milepost.errors import ExperimentExistsError
from milepost.journal import experiment as experiments
from milepost.journal import records, replay
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal


@pytest.fixture
def empty(tmp_path: Path) -> Experiment:
    """An experiment whose first driver died before it had recorded anything."""
    stored = experiments.create(str(tmp_path / "exp"), name="exp", trainable="train")
    Journal.open(stored).close("failed")
    return stored


def test_where_nothing_is_recorded(empty: Experiment) -> None:
    """The run begins, as the second epoch."""
    journal = begin(empty)
    assert journal.epoch == 2
    journal.close("finished")


def test_where_somebody_is_beginning(empty: Experiment) -> None:
    """The error names the holder; the holder goes on."""
    first = begin(empty)
    with pytest.raises(ExperimentExistsError, match="in use by process"):
        begin(empty)
    first.append(records.Planned(at=1.0, setup=msgspec.Raw(b"{}")))
    first.close("finished")


def test_where_somebody_was_faster(empty: Experiment) -> None:
    """A run that has come and gone meanwhile is not written over, nor its end changed."""
    first = begin(empty)
    first.append(records.Planned(at=1.0, setup=msgspec.Raw(b"{}")))
    first.close("finished")
    before = replay.image(empty.path)
    with pytest.raises(ExperimentExistsError, match=r"has run already.*Tuner\.restore"):
        begin(empty)
    assert replay.image(empty.path) == before
    Journal.open(empty).close("finished")  # the lease is free
