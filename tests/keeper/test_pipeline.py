"""Which capture is committed when: in order within a trial, side by side, small ones together."""

from __future__ import annotations

import queue
import threading

import pytest

from milepost.keeper.job import Job, Outcome, Part
from milepost.keeper.pipeline import GROUP, SMALL_BYTES, Pipeline

SMALL, LARGE = 10, SMALL_BYTES + 1


class Bench:
    """A pipeline whose commits wait until the test lets them go on."""

    def __init__(self) -> None:
        self.started: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        self.finished: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        self.failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self._gates: dict[tuple[str, int], threading.Event] = {}
        self.pipeline = Pipeline(self._settle, self.finished.put, self.failures.put)
        self.pipeline.open("e")

    def submit(self, trial: str, index: int, nbytes: int = SMALL, uuid: str = "e") -> None:
        self._gates[trial, index] = threading.Event()
        self.pipeline.submit(Job(uuid, trial, 0, index, (Part(f"{trial}-{index}", 0, nbytes),)))

    def next(self) -> list[tuple[str, int]]:
        return [(job.trial_id, job.index) for job in self.started.get(timeout=10)]

    def finish(self, *which: tuple[str, int]) -> None:
        for each in which:
            self._gates[each].set()

    def close(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self.pipeline.stop()

    def _settle(self, jobs):
        self.started.put(list(jobs))
        for job in jobs:
            if job.index < 0:
                raise RuntimeError("a fault of ours")
            self._gates[job.trial_id, job.index].wait(10)
        return [Outcome(job, "") for job in jobs]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_large_ones_of_a_trial_go_one_by_one(bench):
    """The second begins when the first is done, although threads are idle."""
    for index in range(3):
        bench.submit("t", index, LARGE)
    assert bench.next() == [("t", 0)]
    assert bench.started.empty()
    bench.finish(("t", 0))
    assert bench.next() == [("t", 1)]
    bench.finish(("t", 1), ("t", 2))
    assert bench.next() == [("t", 2)]


def test_trials_go_side_by_side(bench):
    """A large checkpoint of one trial does not hold up another trial."""
    bench.submit("slow", 0, LARGE)
    assert bench.next() == [("slow", 0)]
    bench.submit("quick", 0, LARGE)
    bench.submit("small", 0)
    assert sorted(bench.next() + bench.next()) == [("quick", 0), ("small", 0)]


def test_small_ones_make_up_groups(bench):
    """What is captured while one group is committed is the next group, in order per trial."""
    bench.submit("a", 0)
    assert bench.next() == [("a", 0)]
    for index in (1, 2, 3):
        bench.submit("a", index)
        bench.submit("b", index)
    assert bench.started.empty(), "one group at a time"
    bench.finish(("a", 0))
    group = bench.next()
    assert [index for trial, index in group if trial == "a"] == [1, 2, 3]
    assert [index for trial, index in group if trial == "b"] == [1, 2, 3]


def test_order_of_small_and_large(bench):
    """A small one waits for the large one before it, and the other way round."""
    for index, nbytes in enumerate((SMALL, SMALL, LARGE, SMALL)):
        bench.submit("t", index, nbytes)
    seen = []
    while len(seen) < 4:
        group = bench.next()
        seen += group
        bench.finish(*group)
    assert seen == [("t", index) for index in range(4)]


def test_groups_are_bounded_and_trials_take_turns(bench):
    """A trial with a long queue does not keep another out of the group after next."""
    bench.submit("first", 0)
    assert bench.next() == [("first", 0)]
    for index in range(2 * GROUP):
        bench.submit("long", index)
    bench.submit("late", 0)
    bench.finish(("first", 0))
    group = bench.next()
    assert group == [("long", index) for index in range(GROUP)]
    bench.finish(*group)
    assert ("late", 0) in bench.next()


def test_closed_experiments_wait(bench):
    """Jobs of an experiment that is not open wait, and are forgotten when it is closed."""
    bench.submit("t", 0, uuid="f")
    bench.submit("t", 1)
    assert bench.next() == [("t", 1)]
    bench.finish(("t", 1))
    closed = []
    bench.pipeline.close("f", lambda: closed.append("f"))
    assert closed == ["f"]
    bench.pipeline.open("f")
    bench.submit("t", 2, uuid="f")
    assert bench.next() == [("t", 2)]


def test_an_experiment_is_closed_when_its_last_job_has_ended(bench):
    """Until then another keeper must not begin: it would work on the same files."""
    bench.submit("t", 0)
    assert bench.next() == [("t", 0)]
    closed: queue.Queue[str] = queue.Queue()
    bench.pipeline.close("e", lambda: closed.put("e"))
    with pytest.raises(queue.Empty):
        closed.get(timeout=0.05)
    bench.finish(("t", 0))
    assert closed.get(timeout=10) == "e"


def test_outcomes_come_before_the_next_of_the_trial(bench):
    """A trial's outcomes are handed on in order."""
    for index in range(50):
        bench.submit("t", index, LARGE if index % 2 else SMALL)
        bench.finish(("t", index))
    seen = []
    while len(seen) < 50:
        seen += [outcome.job.index for outcome in bench.finished.get(timeout=10)]
    assert seen == list(range(50))


def test_a_fault_of_ours_is_not_swallowed(bench):
    """An exception that no commit may raise is handed on."""
    bench.submit("t", -1)
    assert str(bench.failures.get(timeout=10)) == "a fault of ours"
