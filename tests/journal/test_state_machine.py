"""The journal against a model: a list of what happened, of which a crash drops the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from milepost.errors import LeaseLostError
from milepost.journal import compaction, epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.epochs import Segment
from milepost.journal.log import Journal
from milepost.storage import posix

RAW = msgspec.Raw(b"{}")
TRIALS = ("a", "b")
HEADERS = (rec.Opened, rec.Continued, rec.Closed)


class Event(NamedTuple):
    """Something that happened, and where its record ends."""

    kind: str
    trial: str
    index: int
    segment: Segment
    end: int


class State(NamedTuple):
    """What the events amount to, computed in the simplest way."""

    rows: dict[str, int]
    committed: dict[str, set[int]]
    next_index: dict[str, int]


def expected(events: list[Event]) -> State:
    state = State({}, {}, {})
    for event in events:
        if event.kind == "searched":
            continue
        if event.kind == "created":
            state.rows[event.trial] = 0
            state.committed[event.trial] = set()
            state.next_index[event.trial] = 0
            continue
        if event.kind == "reported":
            state.rows[event.trial] += 1
        elif event.kind == "committed":
            state.committed[event.trial].add(event.index)
        elif event.kind == "deleted":
            state.committed[event.trial].discard(event.index)
            continue
        if event.index >= 0:
            known = state.next_index[event.trial]
            state.next_index[event.trial] = max(known, event.index + 1)
    return state


class JournalMachine(RuleBasedStateMachine):
    """Appends, flushes, compactions, deaths and power losses in any order."""

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = tempfile.mkdtemp(dir=memory, prefix="milepost-test-")
        self.events: list[Event] = []
        self.durable = 0
        self.journal: Journal | None = None

    @initialize()
    def begin(self) -> None:
        path = os.path.join(self.root, "exp")
        self.experiment = experiments.create(path, name="exp", trainable="f")
        self.reopen()
        for trial in TRIALS:
            self._append(
                "created",
                trial,
                -1,
                rec.Created(
                    at=1.0,
                    trial=trial,
                    name=trial,
                    directory=trial,
                    tag="",
                    order=0,
                    config=RAW,
                    evaluated=RAW,
                    resources=RAW,
                ),
            )
        self.sync()

    def teardown(self) -> None:
        if self.journal is not None:
            self.journal.close(None)
        shutil.rmtree(self.root)

    def _append(self, kind: str, trial: str, index: int, record: rec.AnyRecord) -> None:
        assert self.journal is not None
        self.journal.append(record)
        segment = epochs.segments(self.experiment.path)[-1]
        self.events.append(Event(kind, trial, index, segment, os.path.getsize(self._file(segment))))

    def _file(self, segment: Segment) -> str:
        return os.path.join(epochs.journal_directory(self.experiment.path), segment.name)

    @precondition(lambda self: self.journal is not None)
    @rule(trial=st.sampled_from(TRIALS), index=st.none() | st.integers(0, 5))
    def report(self, trial: str, index: int | None) -> None:
        record = rec.Reported(
            at=2.0, trial=trial, attempt=0, iteration=1, row=RAW, action="x", checkpoint=index
        )
        self._append("reported", trial, -1 if index is None else index, record)

    @precondition(lambda self: self.journal is not None)
    @rule(trial=st.sampled_from(TRIALS), index=st.integers(0, 5))
    def commit(self, trial: str, index: int) -> None:
        record = rec.Committed(
            at=3.0, trial=trial, attempt=0, index=index, iteration=1, nbytes=1, digest="d"
        )
        self._append("committed", trial, index, record)

    @precondition(lambda self: self.journal is not None)
    @rule(trial=st.sampled_from(TRIALS), index=st.integers(0, 5))
    def delete(self, trial: str, index: int) -> None:
        self._append("deleted", trial, index, rec.Deleted(at=4.0, trial=trial, index=index))

    @precondition(lambda self: self.journal is not None)
    @rule()
    def save_search(self) -> None:
        self._append("searched", "", -1, rec.Searched(at=5.0, state=str(len(self.events))))

    @precondition(lambda self: self.journal is not None)
    @rule()
    def sync(self) -> None:
        assert self.journal is not None
        self.journal.sync()
        self.durable = len(self.events)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def rotate(self) -> None:
        assert self.journal is not None
        self.journal.rotate()
        self.durable = len(self.events)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def compact(self) -> None:
        self.rotate()
        segment = epochs.segments(self.experiment.path)[-1]
        compaction.compact(self.experiment.path, segment, keep_rows=False)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def close(self) -> None:
        assert self.journal is not None
        self.journal.close("finished")
        self.journal = None
        self.durable = len(self.events)

    @precondition(lambda self: self.journal is None)
    @rule()
    def reopen(self) -> None:
        self.journal = Journal.open(self.experiment)
        self.durable = len(self.events)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def second_driver(self) -> None:
        with pytest.raises(LeaseLostError):
            Journal.open(self.experiment)

    @precondition(lambda self: self.journal is not None)
    @rule(part=st.floats(0, 1), tail=st.sampled_from([b"", b"\0" * 40, b'{"crc":"00000000"}\n']))
    def power_loss(self, part: float, tail: bytes) -> None:
        """Cut the newest file anywhere after what is durable, with rubbish where it was cut."""
        assert self.journal is not None
        self.journal.close(None)
        self.journal = None
        segment = epochs.segments(self.experiment.path)[-1]
        path = self._file(segment)
        size = os.path.getsize(path)
        ends = [e.end for e in self.events[: self.durable] if e.segment == segment]
        with open(path, "rb") as file:
            safe = max([*ends, len(file.readline())])
        length = safe + round((size - safe) * part)
        fd = os.open(path, os.O_RDWR)
        posix.truncate(fd, length)
        posix.pwrite(fd, tail, length)
        os.close(fd)
        self.events = [e for e in self.events if e.segment < segment or e.end <= length]
        assert len(self.events) >= self.durable

    @precondition(lambda self: self.journal is None)
    @rule()
    def taker_that_died(self) -> None:
        segment = Segment(epochs.newest_epoch(self.experiment.path) + 1, 1)
        os.close(posix.create_new(self._file(segment)))

    @invariant()
    def replay_agrees(self) -> None:
        if not self.events:
            return
        state = replay.image(self.experiment.path)
        model = expected(self.events)
        assert {t.trial: t.rows for t in state.trials.values()} == model.rows
        assert {t.trial: set(t.committed) for t in state.trials.values()} == model.committed
        assert {t.trial: t.next_index for t in state.trials.values()} == model.next_index
        if self.journal is not None:
            assert state.epoch == self.journal.epoch
            assert state.seq == self.journal.seq >= self.journal.synced

    @invariant()
    def what_follows_the_last_saved_search_is_there(self) -> None:
        if not self.events:
            return
        state = replay.image(self.experiment.path)
        kinds = [event.kind for event in self.events]
        assert state.saves == kinds.count("searched")
        if not state.saves:
            return
        last = len(kinds) - kinds[::-1].index("searched")
        since = [
            (type(record).__name__.lower(), record.trial)
            for _, record in replay.records(self.experiment.path, after=state.searched_seq)
            if not isinstance(record, HEADERS)
        ]
        assert since == [(event.kind, event.trial) for event in self.events[last:]]


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
