"""A damaged journal: what a crash can leave is recovered, all else is refused by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from milepost.errors import JournalCorruptError
from milepost.journal import epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal


@pytest.fixture
def written(experiment: Experiment, make: Any) -> Experiment:
    """An experiment with two epochs, the second of which was cut off by a crash."""
    first = Journal.open(experiment)
    first.append(make.created())
    first.append(make.launched())
    first.close("interrupted")
    second = Journal.open(experiment)
    second.append(make.launched(attempt=1))
    for iteration in range(1, 4):
        second.append(make.reported(iteration=iteration, attempt=1))
    second.close(None)
    return experiment


def journal_file(experiment: Experiment, epoch: int) -> Path:
    return Path(epochs.journal_directory(experiment.path), f"{epoch:08d}.jsonl")


def copied(experiment: Experiment, tmp_path: Path, name: str) -> Experiment:
    return experiments.open(str(shutil.copytree(experiment.path, tmp_path / name)))


def test_cut_at_every_byte_of_the_last_file(written: Experiment, tmp_path: Path, make: Any) -> None:
    """Whole records survive, the torn one is dropped, and the next driver goes on from there."""
    whole = journal_file(written, 2).read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    before = replay.image(written.path).seq - len(ends)
    work = copied(written, tmp_path, "cut")
    for length in range(len(whole) + 1):
        journal_file(work, 2).write_bytes(whole[:length])
        kept = sum(end <= length for end in ends)
        assert replay.image(work.path).seq == before + kept
    for length in [0, 1, *(end - 1 for end in ends), *ends]:
        work = copied(written, tmp_path, f"cut{length}")
        journal_file(work, 2).write_bytes(whole[:length])
        kept = sum(end <= length for end in ends)
        journal = Journal.open(work)
        assert journal.epoch == 3
        journal.append(make.changed())
        journal.close("finished")
        state = replay.image(work.path)
        assert state.seq == before + kept + 3
        assert state.trials["t1"].status == "TERMINATED"
        assert state.trials["t1"].rows == max(kept - 2, 0)


def test_a_flipped_bit_anywhere_before_the_end_is_found(written: Experiment) -> None:
    """No damaged record is used: not in a finished file, not in the middle of the newest."""
    intact = replay.image(written.path)
    for epoch in (1, 2):
        path = journal_file(written, epoch)
        whole = path.read_bytes()
        last_line = whole.rindex(b"\n", 0, -1) + 1
        newlines = [at for at, byte in enumerate(whole) if byte == ord("\n")]
        for at in sorted({*range(0, len(whole), 7), *newlines}):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            if epoch == 2 and at >= last_line:
                # The end of the newest file may be torn, so only its last record goes.
                assert replay.image(written.path).seq == intact.seq - 1
            else:
                with pytest.raises(JournalCorruptError) as caught:
                    replay.image(written.path)
                assert f"{epoch:08d}.jsonl" in str(caught.value)
        path.write_bytes(whole)
    assert replay.image(written.path) == intact


def test_a_driver_refuses_a_journal_that_is_damaged_in_the_middle(
    written: Experiment, make: Any
) -> None:
    """Opening fails with file, line and byte, and gives the lease back."""
    path = journal_file(written, 2)
    whole = path.read_bytes()
    first_end = whole.index(b"\n") + 1
    path.write_bytes(whole[:first_end] + b"X" + whole[first_end + 1 :])
    where = rf"00000002\.jsonl is damaged in line 2, at byte {first_end}"
    with pytest.raises(JournalCorruptError, match=where):
        Journal.open(written)
    with pytest.raises(JournalCorruptError, match=where):
        list(replay.records(written.path))
    path.write_bytes(whole)
    journal = Journal.open(written)
    journal.append(make.changed())
    journal.close("finished")
    assert replay.image(written.path).closed == "finished"


def test_a_missing_file_is_named(written: Experiment) -> None:
    """A gap in the chain of files is never passed over in silence."""
    os.unlink(journal_file(written, 1))
    with pytest.raises(JournalCorruptError, match=r"00000001\.jsonl is missing or empty"):
        replay.image(written.path)


def test_a_record_of_an_unknown_trial_is_refused(experiment: Experiment, make: Any) -> None:
    """A record that does not fit those before it is named with its number."""
    journal = Journal.open(experiment)
    journal.append(make.launched())
    journal.close("finished")
    with pytest.raises(JournalCorruptError, match="record 2 is about the trial 't1', which was"):
        replay.image(experiment.path)
