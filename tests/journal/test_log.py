"""The journal of a live experiment: appending, durability, errors."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Any

import pytest

from milepost.errors import JournalCorruptError, JournalError, LeaseLostError
from milepost.journal import epochs, replay
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.storage import posix
from milepost.testing.interposer import Fault, Interposer

Open = Callable[..., Journal]


def kinds(path: str) -> list[str]:
    return [type(record).__name__ for _, record in replay.records(path)]


def readable(fd: int, timeout_s: float = 10.0) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])


def test_a_record_is_in_the_file_at_once_and_durable_soon(
    open_journal: Open, experiment: Experiment, make: Any
) -> None:
    """Append does not wait; the descriptor tells when the record is durable."""
    journal = open_journal()
    assert journal.seq == journal.synced == 1
    assert not readable(journal.fileno(), 0)
    seq = journal.append(make.created())
    assert seq == 2
    assert kinds(experiment.path) == ["Opened", "Created"]
    assert readable(journal.fileno())
    journal.acknowledge()
    assert journal.synced == seq
    assert not readable(journal.fileno(), 0)


def test_many_records_share_a_flush(open_journal: Open, make: Any) -> None:
    """Records that come within the window are flushed together."""
    journal = open_journal()
    with Interposer() as steps:
        for iteration in range(100):
            journal.append(make.reported(iteration=iteration))
        journal.sync()
    operations = [step.operation for step in steps.steps]
    assert operations.count("append") == 100
    assert operations.count("fsync") <= 3
    assert journal.synced == journal.seq == 101


def test_epochs_follow_each_other(experiment: Experiment, open_journal: Open, make: Any) -> None:
    """Each opening begins an epoch that continues the numbers and names its predecessor."""
    first = open_journal()
    first.append(make.created())
    first.close("finished")
    second = open_journal()
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.seq == 4
    second.append(make.changed())
    assert kinds(experiment.path) == ["Opened", "Created", "Closed", "Opened", "Changed"]
    assert [seq for seq, _ in replay.records(experiment.path)] == [1, 2, 3, 4, 5]
    assert replay.image(experiment.path).epoch == 2


def test_a_closed_journal_refuses_records(open_journal: Open, make: Any) -> None:
    """Closing twice does nothing; appending afterwards is an error."""
    journal = open_journal()
    journal.close("finished")
    journal.close("failed")
    with pytest.raises(JournalError, match="is closed"):
        journal.append(make.created())


def test_closing_leaves_nothing_behind(experiment: Experiment, make: Any) -> None:
    """No thread and no descriptor of the journal survives it."""
    threads, before = threading.active_count(), set(os.listdir("/proc/self/fd"))
    journal = Journal.open(experiment)
    journal.append(make.created())
    journal.close("finished")
    assert threading.active_count() == threads
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["eio", "enospc"])
def test_a_failed_flush_ends_the_run(experiment: Experiment, make: Any, kind: Any) -> None:
    """The loop is told through the descriptor; nothing more is written; the lease is free."""
    journal = Journal.open(experiment)
    with Interposer(Fault(kind, 2)):  # append, then fsync
        journal.append(make.created())
        assert readable(journal.fileno())
        with pytest.raises(JournalError, match=r"could not be made durable.*number 1 are safe"):
            journal.acknowledge()
    with pytest.raises(JournalError, match="could not be made durable"):
        journal.append(make.changed())
    with pytest.raises(JournalError, match="could not be made durable"):
        journal.sync()
    assert journal.synced == 1
    journal.close("failed")
    Journal.open(experiment).close("finished")


def test_a_journal_that_cannot_be_opened(experiment: Experiment, make: Any) -> None:
    """The error speaks of records only where there are some; the experiment stays free."""
    with (
        Interposer(Fault("enospc", 4)),
        pytest.raises(JournalError, match=r"cannot open .*No space left.*has no records yet"),
    ):
        Journal.open(experiment)
    journal = Journal.open(experiment)
    journal.append(make.created())
    journal.close("finished")
    with (
        Interposer(Fault("enospc", 4)),
        pytest.raises(JournalError, match=r"cannot open .*No space left.*records are intact"),
    ):
        Journal.open(experiment)
    Journal.open(experiment).close("finished")


def test_a_failure_nobody_was_told_of_is_raised_at_the_end(
    experiment: Experiment, make: Any
) -> None:
    """Closing raises what the loop never saw, and frees the experiment all the same."""
    journal = Journal.open(experiment)
    with Interposer(Fault("eio", 2)):
        journal.append(make.created())
        assert readable(journal.fileno())
        with pytest.raises(JournalError, match="could not be made durable"):
            journal.close("finished")
    Journal.open(experiment).close("finished")


def test_a_failed_write_ends_the_run_and_half_a_line_is_ignored(
    experiment: Experiment, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk tears the line; the error says what is safe; the next driver goes on."""
    journal = Journal.open(experiment)
    journal.append(make.created())
    with (
        Interposer(Fault("enospc", 1)),
        pytest.raises(JournalError, match=r"cannot write .*No space left.*number 2 are safe"),
    ):
        journal.append(make.launched())
    with pytest.raises(JournalError, match="cannot write"):
        journal.append(make.launched())
    journal.close("failed")
    assert kinds(experiment.path) == ["Opened", "Created"]
    with caplog.at_level(logging.WARNING):
        again = Journal.open(experiment)
    assert "are no whole record; ignoring them" in caplog.text
    again.append(make.launched())
    again.close("finished")
    assert kinds(experiment.path) == ["Opened", "Created", "Opened", "Launched", "Closed"]


def test_a_wait_for_durability_is_bounded(
    open_journal: Open, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage that does not answer is an error that says how far the journal got."""
    journal = open_journal()
    answer = threading.Event()
    flush = posix.fsync
    monkeypatch.setattr(posix, "fsync", lambda fd: (answer.wait(20), flush(fd)))
    journal.append(make.created())
    with pytest.raises(JournalError, match=r"record 2 .* not durable after 0\.05 s \(record 1 is"):
        journal.sync(0.05)
    answer.set()
    journal.sync()


def test_listeners_hear_of_every_flush(open_journal: Open, make: Any) -> None:
    """A subscriber is called after the number has advanced."""
    journal = open_journal()
    heard = []
    journal.subscribe(lambda: heard.append(journal.synced))
    journal.append(make.created())
    journal.sync()
    journal.append(make.launched())
    journal.close(None)
    assert heard[-1] == 3
    assert heard == sorted(heard)


def test_a_journal_of_another_experiment_is_refused(experiment: Experiment) -> None:
    """Files that were copied in from elsewhere are not continued."""
    Journal.open(experiment).close("finished")
    import msgspec

    other = msgspec.structs.replace(experiment, uuid="0" * 32)
    with pytest.raises(JournalCorruptError, match="belongs to experiment"):
        Journal.open(other)


def test_a_fenced_driver_notices_before_anything_counts_as_durable(
    experiment: Experiment, make: Any
) -> None:
    """Once a higher epoch exists, no record of the old driver becomes durable."""
    journal = Journal.open(experiment)
    journal.append(make.created())
    journal.sync()
    directory = epochs.journal_directory(experiment.path)
    os.close(posix.create_new(os.path.join(directory, "00000002.jsonl")))
    journal.append(make.launched())
    with pytest.raises(LeaseLostError, match=r"taken over by .*\(epoch 2, ours is 1\)"):
        journal.sync()
    assert journal.synced == 2
    with pytest.raises(LeaseLostError):
        journal.append(make.changed())
    journal.close("failed")


def test_a_taker_that_never_wrote_is_passed_over(
    experiment: Experiment, open_journal: Open, make: Any
) -> None:
    """An epoch file without a record leaves a gap in the numbers of epochs, nothing else."""
    first = open_journal()
    first.append(make.created())
    first.close("finished")
    directory = epochs.journal_directory(experiment.path)
    os.close(posix.create_new(os.path.join(directory, "00000002.jsonl")))
    third = open_journal()
    assert third.epoch == 3
    assert kinds(experiment.path) == ["Opened", "Created", "Closed", "Opened"]


def test_later_bytes_of_a_fenced_driver_are_ignored(
    experiment: Experiment, open_journal: Open, make: Any
) -> None:
    """What an old driver appends after the take-over is not part of the journal."""
    first = open_journal()
    first.append(make.created())
    first.close("finished")
    name = os.path.join(epochs.journal_directory(experiment.path), "00000001.jsonl")
    with open(name, "rb") as file:
        last = file.read().splitlines(keepends=True)[-1]
    open_journal().append(make.changed())
    with open(name, "ab") as file:
        file.write(last + b"garbage")
    assert kinds(experiment.path) == ["Opened", "Created", "Closed", "Opened", "Changed"]
