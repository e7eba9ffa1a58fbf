"""Snapshots: replay from one gives what replay from the start gave."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from milepost.errors import JournalCorruptError, JournalError
from milepost.journal import compaction, epochs, replay
from milepost.journal import records as rec
from milepost.journal.epochs import Segment
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.testing.interposer import EXIT_CODE, Fault, Interposer, run_in_child


def journal_files(experiment: Experiment) -> list[str]:
    return [segment.name for segment in epochs.segments(experiment.path)]


def snapshot_files(experiment: Experiment) -> list[str]:
    return sorted(name for name in os.listdir(experiment.home) if name.startswith("snapshot"))


class Run:
    """A journal that is written to, rotated and compacted as its writer process would."""

    def __init__(self, experiment: Experiment, make: Any) -> None:
        self.experiment = experiment
        self.journal = Journal.open(experiment)
        self.make = make
        self.iteration = 0
        self.journal.append(make.created())
        self.journal.append(make.launched())

    def report(self, count: int = 3) -> None:
        for _ in range(count):
            self.iteration += 1
            self.journal.append(self.make.reported(iteration=self.iteration))

    def rotate(self) -> Segment:
        self.journal.rotate()
        return epochs.segments(self.experiment.path)[-1]

    def compact(self, *, keep_rows: bool = False) -> list[str]:
        return compaction.compact(self.experiment.path, self.rotate(), keep_rows=keep_rows)


@pytest.fixture
def run(experiment: Experiment, make: Any) -> Any:
    """A run with one file of records."""
    run = Run(experiment, make)
    run.report()
    yield run
    run.journal.close(None)


def test_a_snapshot_changes_nothing_but_the_length_of_replay(
    run: Run, experiment: Experiment
) -> None:
    """The state is the same with the snapshot, and without it."""
    segment = run.rotate()
    before = replay.image(experiment.path)
    assert compaction.compact(experiment.path, segment, keep_rows=False) == []
    assert snapshot_files(experiment) == ["snapshot-00000001-000001.json"]
    assert replay.image(experiment.path) == before
    assert [seq for seq, _ in replay.records(experiment.path)] == list(range(1, before.seq + 1))
    run.report()
    assert replay.image(experiment.path).trials["t1"].rows == 6


def test_the_snapshot_before_the_last_keeps_its_files(run: Run, experiment: Experiment) -> None:
    """Two snapshots stay, with all files since the older one; the rest goes."""
    run.compact()
    run.report()
    removed = run.compact()
    assert [os.path.basename(path) for path in removed] == ["00000001.jsonl"]
    run.report()
    removed = run.compact()
    assert [os.path.basename(path) for path in removed] == [
        "00000001-000002.jsonl",
        "snapshot-00000001-000001.json",
    ]
    assert journal_files(experiment) == ["00000001-000003.jsonl", "00000001-000004.jsonl"]
    assert snapshot_files(experiment) == [
        "snapshot-00000001-000002.json",
        "snapshot-00000001-000003.json",
    ]
    state = replay.image(experiment.path)
    assert state.trials["t1"].rows == 9
    first = next(replay.records(experiment.path))
    assert type(first[1]).__name__ == "Continued"


def test_what_happened_since_the_search_was_saved_stays(run: Run, experiment: Experiment) -> None:
    """Files with records after the last saved search are kept, the others go when it is saved."""
    saved = run.journal.append(rec.Searched(at=5.0, state="s"))
    for _ in range(3):
        run.report()
        run.compact()
    assert journal_files(experiment)[0] == "00000001.jsonl"
    since = list(replay.records(experiment.path, after=replay.image(experiment.path).searched_seq))
    assert [seq for seq, _ in since] == list(range(saved + 1, run.journal.seq + 1))
    run.journal.append(rec.Searched(at=6.0, state="s2"))
    run.compact()
    run.compact()
    assert journal_files(experiment) == [
        "00000001-000004.jsonl",
        "00000001-000005.jsonl",
        "00000001-000006.jsonl",
    ]
    state = replay.image(experiment.path)
    since = list(replay.records(experiment.path, after=state.searched_seq))
    assert [type(record).__name__ for _, record in since] == ["Continued", "Continued"]


def test_records_that_are_gone_are_missed(run: Run, experiment: Experiment) -> None:
    """Asking for what followed a record that has left the journal is an error, not a gap."""
    for _ in range(3):
        run.report()
        run.compact()
    first = next(replay.records(experiment.path))[0]
    assert next(replay.records(experiment.path, after=first - 1))[0] == first
    with pytest.raises(JournalCorruptError, match=f"no record before number {first}"):
        list(replay.records(experiment.path, after=first - 2))


def test_files_before_the_wanted_records_are_not_opened(run: Run, experiment: Experiment) -> None:
    """Damage there does not matter, and they take no time."""
    for _ in range(3):
        run.report()
        run.rotate()
    after = run.journal.seq - 1
    run.report()
    for name in journal_files(experiment)[:-1]:
        Path(epochs.journal_directory(experiment.path), name).write_bytes(b"rubbish\n")
    seqs = [seq for seq, _ in replay.records(experiment.path, after=after)]
    assert seqs == list(range(after + 1, run.journal.seq + 1))
    bounded = replay.records(experiment.path, after=after, up_to=after + 2)
    assert [seq for seq, _ in bounded] == [after + 1, after + 2]


def test_a_damaged_snapshot_costs_only_time(
    run: Run, experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    """The one before it is used, with a line in the log."""
    run.compact()
    run.report()
    run.compact()
    before = replay.image(experiment.path)
    newest = Path(experiment.home, "snapshot-00000001-000002.json")
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b'"rows":6', b'"rows":7'))
    with caplog.at_level(logging.WARNING):
        assert replay.image(experiment.path) == before
    assert "snapshot-00000001-000002.json is damaged" in caplog.text
    newest.write_bytes(b"")
    assert replay.image(experiment.path) == before
    os.unlink(Path(experiment.home, "snapshot-00000001-000001.json"))
    with pytest.raises(JournalCorruptError, match=r"00000001\.jsonl is missing"):
        replay.image(experiment.path)


def test_rows_that_have_no_other_place_stay(run: Run, experiment: Experiment) -> None:
    """With ``keep_rows`` snapshots are written and no file goes."""
    for _ in range(3):
        assert run.compact(keep_rows=True) == []
        run.report()
    assert len(journal_files(experiment)) == 4
    assert replay.image(experiment.path).trials["t1"].rows == 12


def test_a_snapshot_of_bytes_that_do_not_count_is_ignored(
    run: Run, experiment: Experiment, make: Any
) -> None:
    """What a fenced driver compacted, with records that its successor never read, is not used."""
    run.journal.close(None)
    successor = Journal.open(experiment)
    own = replay.image(experiment.path)
    # The fenced driver goes on: a record and a file after what its successor has named.
    path = Path(epochs.journal_directory(experiment.path), "00000001.jsonl")
    from milepost.journal import chain, lines, snapshot

    late = lines.make(own.seq, b'{"type":"changed","at":9.0,"trial":"t1","status":"TERMINATED"}')
    data = path.read_bytes() + late
    path.write_bytes(data)
    import zlib

    bad = replay.image(experiment.path)
    bad.trials["t1"].status = "TERMINATED"
    mark = chain.Mark(Segment(1, 1), len(data), f"{zlib.crc32(data):08x}")
    snapshot.write(experiment.path, mark, bad)
    assert replay.image(experiment.path) == own
    successor.close("finished")


def test_nobody_compacts_after_a_take_over(run: Run, experiment: Experiment) -> None:
    """The writer of a fenced driver leaves the files alone."""
    segment = run.rotate()
    run.journal.close(None)
    Journal.open(experiment).close(None)
    before = journal_files(experiment)
    assert compaction.compact(experiment.path, segment, keep_rows=False) == []
    assert snapshot_files(experiment) == []
    assert journal_files(experiment) == before


def test_a_journal_rotates_by_itself(experiment: Experiment, make: Any) -> None:
    """Files end near the given size; replay sees one sequence of records."""
    journal = Journal.open(experiment, segment_bytes=4000)
    journal.append(make.created())
    for iteration in range(200):
        journal.append(make.reported(iteration=iteration))
    journal.close("finished")
    sizes = [
        os.path.getsize(os.path.join(epochs.journal_directory(experiment.path), name))
        for name in journal_files(experiment)
    ]
    assert len(sizes) > 3
    assert all(4000 <= size <= 8200 for size in sizes[:-1])
    assert replay.image(experiment.path).trials["t1"].rows == 200
    seqs = [seq for seq, _ in replay.records(experiment.path)]
    assert seqs == list(range(1, len(seqs) + 1))


def test_many_short_epochs_are_compacted_too(experiment: Experiment, make: Any) -> None:
    """The length of replay counts over all epochs since the last snapshot."""
    for _ in range(3):
        journal = Journal.open(experiment)
        journal.close("interrupted")
    segment = epochs.segments(experiment.path)[-1]
    assert not compaction.is_worthwhile(experiment.path, segment)
    assert compaction.is_worthwhile(experiment.path, segment, worthwhile_bytes=100)
    journal = Journal.open(experiment)
    before = replay.image(experiment.path)
    compaction.compact(experiment.path, journal.first_segment, keep_rows=False)
    assert replay.image(experiment.path) == before
    assert not compaction.is_worthwhile(
        experiment.path, journal.first_segment, worthwhile_bytes=100
    )
    journal.close("finished")


def test_compaction_may_die_at_any_step(run: Run, experiment: Experiment) -> None:
    """Whatever step is the last, the state is the same."""
    run.compact()
    at = 0
    code = EXIT_CODE
    while code == EXIT_CODE:
        at += 1
        run.report()
        segment = run.rotate()
        before = replay.image(experiment.path)
        code = run_in_child(
            lambda segment=segment: compaction.compact(experiment.path, segment, keep_rows=False),
            Interposer(Fault("torn", at)),
        )
        assert replay.image(experiment.path) == before
        compaction.compact(experiment.path, segment, keep_rows=False)
        assert replay.image(experiment.path) == before
    assert at > 5


def test_a_snapshot_of_a_newer_version_is_refused_by_name(run: Run, experiment: Experiment) -> None:
    """It is not ignored, because the records that it covers may be gone."""
    run.compact()
    path = Path(experiment.home, "snapshot-00000001-000001.json")
    seq, _, record = path.read_bytes().partition(b'"type"')
    from milepost.journal import lines

    number = lines.seq_of(seq + b'"type"' + record)
    assert number is not None
    newer = (b'{"type"' + record).rstrip(b"\n").replace(b'"schema":1', b'"schema":99', 1)
    path.write_bytes(lines.make(number, newer))
    with pytest.raises(JournalError, match=r"schema 99, written by milepost"):
        replay.image(experiment.path)
