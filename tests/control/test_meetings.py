"""Meetings: all go on together, or all are told why that cannot be."""

from __future__ import annotations

import pickle

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from milepost.control.meetings import Meetings, Missing, Outcome, Said
from milepost.errors import CollectiveError, CollectiveTimeoutError

REPORT = Said("train.report()")
BARRIER = Said("collective.barrier()")


def meetings(size: int = 3, limit_s: float | None = None) -> Meetings:
    found = Meetings(limit_s, 60.0)
    found.begin("t", size)
    return found


def test_the_last_lets_all_go_on() -> None:
    """All get what rank 0 brought, and everybody's note."""
    group = meetings()
    for rank in (2, 0):
        assert group.say("t", rank, Said("x", b"data%d" % rank, b"note%d" % rank), 0.0) is None
    outcome = group.say("t", 1, Said("x", b"data1", b"note1"), 1.0)
    assert outcome == Outcome("t", (0, 1, 2), "x", b"data0", (b"note0", b"note1", b"note2"))
    assert group.next_moment() is None
    assert group.say("t", 0, REPORT, 2.0) is None, "the next one begins"


def test_different_calls_are_told_to_all_that_called() -> None:
    """Who waits, and who did something else; a rank that has not called yet is not told."""
    group = meetings(4)
    group.say("t", 0, REPORT, 0.0)
    group.say("t", 3, REPORT, 0.0)
    outcome = group.say("t", 1, BARRIER, 0.0)
    assert outcome is not None
    assert outcome.ranks == (0, 1, 3)
    assert outcome.error is not None
    assert outcome.error.missing_ranks == [1]
    assert str(outcome.error).startswith(
        "rank 1 called collective.barrier(), while ranks 0 and 3 wait in train.report() for it."
    )


@pytest.mark.parametrize("first", ["leaves", "says"])
def test_one_that_has_left_is_not_waited_for(first: str) -> None:
    """Whoever calls afterwards is told at once, and those that wait are told when it leaves."""
    group = meetings(2)
    for rank in range(2):
        group.say("t", rank, REPORT, 0.0)
    if first == "leaves":
        assert group.leave("t", 1) is None
        outcome = group.say("t", 0, REPORT, 0.0)
    else:
        assert group.say("t", 0, REPORT, 0.0) is None
        outcome = group.leave("t", 1)
    assert outcome is not None
    assert outcome.ranks == (0,)
    assert str(outcome.error).startswith(
        "rank 0 waits in train.report() for rank 1, whose training function has ended after all "
        "had met once."
    )


def test_all_may_leave() -> None:
    """The ordinary end is none of its business."""
    group = meetings(2)
    assert [group.leave("t", rank) for rank in range(2)] == [None, None]


def test_a_silent_one_is_named_in_time() -> None:
    """Warnings at intervals, then the error, with the ranks that are missing."""
    group = meetings(3, limit_s=100.0)
    group.say("t", 1, REPORT, 10.0)
    assert group.next_moment() == 70.0
    assert group.due(69.0) == []
    assert group.due(70.0) == [Missing("t", "train.report()", (1,), (0, 2), 60.0)]
    assert group.next_moment() == 110.0
    (outcome,) = group.due(110.0)
    assert isinstance(outcome, Outcome)
    assert outcome.ranks == (1,)
    assert isinstance(outcome.error, CollectiveTimeoutError)
    assert outcome.error.missing_ranks == [0, 2]
    assert "ranks 0 and 2, which did not call it within 100 s" in str(outcome.error)
    assert group.next_moment() is None


def test_without_a_limit_it_is_only_said() -> None:
    """Again and again."""
    group = meetings(2)
    group.say("t", 0, REPORT, 0.0)
    assert [len(group.due(now)) for now in (60.0, 119.0, 120.0, 1e6)] == [1, 0, 1, 1]


def test_a_new_attempt_begins_afresh() -> None:
    """Neither those that waited nor those that had left are remembered."""
    group = meetings(2)
    group.leave("t", 1)
    group.begin("t", 2)
    assert group.say("t", 0, REPORT, 0.0) is None
    group.begin("t", 2)
    assert group.say("t", 1, REPORT, 0.0) is None
    group.end("t")
    assert group.say("t", 0, REPORT, 0.0) is None, "its workers are being killed"
    assert group.due(1e6) == []


@given(st.lists(st.integers(0, 9), max_size=4).map(tuple))
def test_the_errors_travel(ranks: tuple[int, ...]) -> None:
    """They are raised in another process."""
    for kind in (CollectiveError, CollectiveTimeoutError):
        error = pickle.loads(pickle.dumps(kind("why", ranks)))
        assert (type(error), str(error), error.missing_ranks) == (kind, "why", list(ranks))


class Workers(RuleBasedStateMachine):
    """Workers that call, leave and are silent at random; none waits for ever."""

    @initialize(size=st.integers(2, 5))
    def start(self, size: int) -> None:
        self.now = 0.0
        self.size = size
        self.meetings = Meetings(100.0, 30.0)
        self.meetings.begin("t", size)
        self.waiting: dict[int, tuple[str, float]] = {}
        self.left: set[int] = set()

    def take(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        for rank in outcome.ranks:
            del self.waiting[rank]
        if outcome.error is None:
            assert outcome.ranks == tuple(range(self.size))
            assert outcome.notes == tuple(b"%d" % rank for rank in range(self.size))
        assert not self.waiting, "all that wait, wait for the same"

    @rule(rank=st.integers(0, 4), what=st.sampled_from(["a", "b"]))
    def say(self, rank: int, what: str) -> None:
        if rank < self.size and rank not in self.waiting and rank not in self.left:
            self.waiting[rank] = (what, self.now)
            self.take(self.meetings.say("t", rank, Said(what, b"", b"%d" % rank), self.now))

    @rule(rank=st.integers(0, 4))
    def leave(self, rank: int) -> None:
        if rank < self.size and rank not in self.waiting and rank not in self.left:
            self.left.add(rank)
            self.take(self.meetings.leave("t", rank))

    @precondition(lambda self: self.meetings.next_moment() is not None)
    @rule()
    def wait(self) -> None:
        moment = self.meetings.next_moment()
        assert moment is not None
        assert moment >= self.now
        self.now = moment
        for found in self.meetings.due(self.now):
            if isinstance(found, Outcome):
                self.take(found)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        waiting = getattr(self, "waiting", {})
        assert not (waiting and self.left), "for one that has left"
        assert len({what for what, _ in waiting.values()}) <= 1
        assert all(self.now - since < 100.0 for _, since in waiting.values())
        assert bool(waiting) == (hasattr(self, "size") and self.meetings.next_moment() is not None)


TestWorkers = Workers.TestCase
