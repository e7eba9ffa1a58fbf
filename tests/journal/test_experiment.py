"""What makes a directory an experiment."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from milepost.errors import ExperimentExistsError, JournalError, StorageError
from milepost.journal import experiment as experiments
from milepost.journal import records
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.storage import names
from milepost.testing.interposer import EXIT_CODE, Fault, Interposer, run_in_child


def test_a_created_experiment_opens_with_the_same_identity(tmp_path: Path) -> None:
    """Opening gives what creation returned, also in a directory that had other files."""
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "notes.txt").write_text("mine")
    made = experiments.create(str(tmp_path / "exp"), name="first", trainable="train")
    assert experiments.open(str(tmp_path / "exp")) == made
    assert made.name == "first"
    assert made.trainable == "train"
    assert (made.device, made.inode) == (os.stat(made.path).st_dev, os.stat(made.path).st_ino)
    assert experiments.is_experiment(made.path)
    assert not experiments.is_experiment(str(tmp_path))


def test_an_existing_experiment_is_never_overwritten(tmp_path: Path) -> None:
    """A second creation fails, names the choices and changes nothing."""
    path = str(tmp_path / "exp")
    made = experiments.create(path, name="first", trainable="train")
    with pytest.raises(ExperimentExistsError, match=r"another name.*tune\.ResultGrid\("):
        experiments.create(path, name="second", trainable="other")
    assert experiments.open(path) == made
    with pytest.raises(FileExistsError):
        experiments.create(path, name="second", trainable="other")


def lose(experiment: Experiment, way: str) -> None:
    """Take the identity of an experiment away."""
    identity = Path(experiment.home, experiments.IDENTITY)
    if way == "missing":
        identity.unlink()
    else:
        identity.write_bytes(b"" if way == "empty" else identity.read_bytes()[:-20])


@pytest.fixture
def lived(tmp_path: Path) -> Experiment:
    """An experiment that has run."""
    made = experiments.create(str(tmp_path / "exp"), name="exp", trainable="train")
    journal = Journal.open(made)
    journal.append(records.Planned(at=1.0, setup=msgspec.Raw(b'{"trainable":"train"}')))
    journal.close("finished")
    return made


@pytest.mark.parametrize("way", ["missing", "empty", "torn"])
def test_a_lost_identity_is_told_by_the_journal(
    way: str, lived: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers are warned and change nothing; the next driver writes it down again."""
    lose(lived, way)
    before = sorted(os.listdir(lived.home))
    with caplog.at_level(logging.WARNING):
        found = experiments.open(lived.path)
    assert "experiment.json" in caplog.text
    assert lived.uuid in caplog.text
    assert msgspec.structs.replace(found, created=lived.created) == lived
    assert found.created >= lived.created
    assert experiments.is_experiment(lived.path)
    assert sorted(os.listdir(lived.home)) == before
    Journal.open(found, repair=True).close("finished")
    caplog.clear()
    assert experiments.open(lived.path) == found
    assert caplog.text == ""
    kept = [name for name in os.listdir(lived.home) if name.startswith(names.QUARANTINE_PREFIX)]
    assert len(kept) == (way != "missing")


@pytest.mark.parametrize("way", ["missing", "empty"])
def test_one_whose_identity_is_lost_is_not_overwritten(way: str, lived: Experiment) -> None:
    """It is an experiment all the same, and nothing is written."""
    lose(lived, way)
    before = {file: file.read_bytes() for file in Path(lived.path).rglob("*") if file.is_file()}
    with pytest.raises(ExperimentExistsError):
        experiments.create(lived.path, name="exp", trainable="train")
    after = {file: file.read_bytes() for file in Path(lived.path).rglob("*") if file.is_file()}
    assert after == before


def test_an_identity_that_nothing_tells(lived: Experiment) -> None:
    """The error says what cannot be read, and that nothing was changed."""
    lose(lived, "missing")
    for file in Path(lived.home, experiments.JOURNAL).iterdir():
        file.write_bytes(b"rubbish\n")
    assert experiments.is_experiment(lived.path)
    with pytest.raises(JournalError, match=r"json is missing, .*journal.*Nothing was changed"):
        experiments.open(lived.path)


def test_of_several_creators_exactly_one_succeeds(tmp_path: Path) -> None:
    """Creators that start together agree on one identity."""
    barrier = threading.Barrier(8)
    made, refused = [], []

    def create() -> None:
        barrier.wait()
        try:
            made.append(experiments.create(str(tmp_path / "exp"), name="x", trainable="f"))
        except ExperimentExistsError as error:
            refused.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(refused) == 7
    assert experiments.open(str(tmp_path / "exp")) == made[0]
    assert not [name for name in os.listdir(made[0].home) if name.startswith(".milepost-tmp")]


def test_a_moved_or_copied_experiment_keeps_its_id_but_not_its_inode(tmp_path: Path) -> None:
    """The uuid travels with the directory; device and inode tell a copy from its original."""
    made = experiments.create(str(tmp_path / "exp"), name="x", trainable="f")
    copy = shutil.copytree(made.path, tmp_path / "copy")
    assert experiments.open(str(copy)).uuid == made.uuid
    assert experiments.open(str(copy)).inode != made.inode
    os.rename(made.path, tmp_path / "moved")
    moved = experiments.open(str(tmp_path / "moved"))
    assert (moved.uuid, moved.inode) == (made.uuid, made.inode)


def test_what_is_no_experiment_is_a_storage_error(tmp_path: Path) -> None:
    """A missing directory, or one without identity, is named."""
    with pytest.raises(StorageError, match="there is no experiment in"):
        experiments.open(str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="there is no experiment in"):
        experiments.open(str(tmp_path))


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """A file in the way is named; nothing is created."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create the experiment 'x'"):
        experiments.create(str(tmp_path / "file" / "exp"), name="x", trainable="f")


def test_a_newer_format_names_both_versions(tmp_path: Path) -> None:
    """An experiment of a later version is refused with what to do."""
    made = experiments.create(str(tmp_path / "exp"), name="x", trainable="f")
    identity = tmp_path / "exp" / ".milepost" / "experiment.json"
    value = json.loads(identity.read_text())
    identity.write_text(json.dumps({**value, "format": 99, "writer": "milepost 9.0"}))
    with pytest.raises(JournalError, match=r"format 99, written by milepost 9\.0; this is milep"):
        experiments.open(made.path)
    identity.write_text("{")
    with pytest.raises(JournalError, match="is damaged"):
        experiments.open(made.path)


def test_creation_may_die_at_any_step(tmp_path: Path) -> None:
    """After a death or an error at each step, there is a whole experiment or none."""

    def create(path: Path) -> None:
        experiments.create(str(path), name="x", trainable="f")

    with Interposer() as counting:
        create(tmp_path / "counted")
    assert counting.count >= 6
    for at in range(1, counting.count + 1):
        path = tmp_path / f"exit{at}"
        fault = Interposer(Fault("torn", at))
        assert run_in_child(lambda path=path: create(path), fault) == EXIT_CODE
        if experiments.is_experiment(str(path)):
            experiments.open(str(path))
        else:
            create(path)
        path = tmp_path / f"full{at}"
        with Interposer(Fault("enospc", at)), pytest.raises(StorageError):
            create(path)
        if not experiments.is_experiment(str(path)):
            create(path)
