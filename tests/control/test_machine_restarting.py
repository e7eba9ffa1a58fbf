"""The machine by tables: restarts that are no failures, because machines go away or come."""

from __future__ import annotations

import pytest
from machines import BOOM, DIED, LATE, LOST, SIGNALLED, Driven

PAIR = ({"CPU": 1}, {"CPU": 1})


def pair(**settings: object) -> Driven:
    """A trial of two workers that trains."""
    m = Driven(cpus=4, **settings)  # type: ignore[arg-type]
    m.add("t", *PAIR, size=2)
    m.place()
    m.started(0)
    m.started(1)
    return m


def test_all_save_and_begin_again() -> None:
    """All workers are told; the report with a checkpoint is the last, and the next start has it."""
    m = pair()
    assert m.preempting(1, 1) == ["preempt worker-0 SIGTERM by=5", "preempt worker-1 SIGTERM by=5"]
    assert m.reported(0, checkpoint=0) == [
        "record reported t continue",
        "answer worker-0 pause",
        "answer worker-1 pause",
    ]
    assert m.committed("t", 0) == ["record committed t/0", "kept t/0"]
    assert m.finished(0, "pause") == []
    assert m.finished(1, "pause") == [
        "end worker-0",
        "end worker-1",
        "notice info",
        "record t PENDING",
        "verify t [0]",
    ]
    assert m.verified("t", 0) == []
    assert m.place()[2:] == [
        "record launched t",
        "run t on worker-2 attempt=1 first=1 from=0",
        "run t on worker-3 attempt=1 first=1 from=0",
    ]
    assert m.trial("t").failures == 0


def test_a_trial_that_nobody_judges_is_told_to_wait() -> None:
    """Else its workers would go on after the report at which they are to stop."""
    m = pair(judged=False)
    assert m.preempting(1, 1)[:2] == ["attend worker-0", "attend worker-1"]


def test_one_more_report_to_save_with() -> None:
    """A trial that makes checkpoints, or asks, is let go on once; others stop at once."""
    m = pair()
    m.reported(0, checkpoint=0)
    m.preempting(0, 0)
    assert "answer worker-0 continue" in m.reported(0, iteration=2)
    assert "answer worker-0 pause" in m.reported(0, iteration=3)
    other = pair()
    other.preempting(0, 0)
    assert "answer worker-0 pause" in other.reported(0)
    asking = pair()
    asking.preempting(0, 0)
    assert "answer worker-0 continue" in asking.reported(0, asks=True)


@pytest.mark.parametrize(("problem", "failures"), [(SIGNALLED, 0), (BOOM, 1), (DIED, 1)])
def test_a_worker_that_dies_meanwhile(problem: object, failures: int) -> None:
    """By a signal from outside: its machine is gone. Anything else is a failure."""
    m = pair(max_failures=1)
    m.preempting(1, 1)
    assert m.gone(1, problem) == ["kill worker-0"]  # type: ignore[arg-type]
    assert "drain t.0" in m.gone(0)
    assert m.trial("t").failures == failures
    assert m.trial("t").preemptions == 1 - failures
    m.drained("t")
    assert "run t on worker-2 attempt=1 first=0" in m.place()


def test_too_often() -> None:
    """The trial is given up, with what is wrong."""
    m = pair(max_preemptions=0, max_failures=3)
    m.preempting(1, 1)
    m.reported(0)
    m.finished(0, "pause")
    told = m.finished(1, "pause")
    assert told[2:] == ["record failure t", "failed t 0", "drain t.0"]
    assert "errored t" in m.drained("t")
    record = next(each for each in m.journal if type(each).__name__ == "Failure")
    assert (record.kind, record.retried) == (LOST.kind, False)  # type: ignore[attr-defined]


def test_counted_as_failures() -> None:
    """If the environment says so."""
    m = pair(count_preemption=True, max_failures=1)
    m.preempting(1, 1)
    m.reported(0)
    m.finished(0, "pause")
    assert "failed t 1 retried" in m.finished(1, "pause")


def test_late() -> None:
    """What does not stop is killed, and begins again."""
    m = pair(max_preemptions=0)
    m.preempting(1, 1)
    assert m.overdue("t") == ["notice warning", "kill worker-0", "kill worker-1"]
    m.gone(0)
    assert "failed t 0" in m.gone(1)
    record = next(each for each in m.journal if type(each).__name__ == "Failure")
    assert record.message == LATE.message  # type: ignore[attr-defined]
    obeying = pair()
    obeying.preempting(1, 1)
    obeying.reported(0)
    assert obeying.overdue("t") == ["notice warning", "kill worker-0", "kill worker-1"]
    obeying.gone(0)
    assert "drain t.0" in obeying.gone(1)
    assert obeying.trial("t").goal == "PENDING"


def test_a_trial_that_returns_has_ended() -> None:
    """It was through."""
    m = pair()
    m.preempting(1, 1)
    m.finished(0)
    assert m.finished(1)[-1] == "ended t"


@pytest.mark.parametrize("ends", ["pause", "stop", "interrupt", "stop_all"])
def test_whatever_else_ends_it_comes_first(ends: str) -> None:
    """A trial that is paused, stopped or interrupted does not begin again by itself."""
    m = pair()
    m.preempting(1, 1)
    if ends in ("pause", "stop"):
        getattr(m, ends)("t")
    else:
        getattr(m, ends)()
    m.reported(0)
    reason = "pause" if ends == "pause" else "stop"
    m.finished(0, reason)
    m.finished(1, reason)
    assert m.place() == []
    assert m.preempting(1, 1) == [], "it is not there"


# --- room ---------------------------------------------------------------------------------------


def test_as_many_workers_as_there_is_room_for() -> None:
    """At each start, between the least and the most."""
    m = Driven(cpus=4)
    m.add("other", {"CPU": 1})
    m.add("t", {"CPU": 1}, size=1, most=6)
    assert sum(line.startswith("start") for line in m.place()) == 4
    assert m.trial("t").size == 3
    m.started(0)
    for worker in (1, 2, 3):
        m.started(worker)
    m.gone(1)
    m.gone(2)
    m.gone(3)
    assert "errored t" in m.drained("t")


def test_growing() -> None:
    """What has fewer workers than it may have begins again with more, once it has saved."""
    m = Driven(cpus=3)
    m.add("other", {"CPU": 1})
    m.add("t", {"CPU": 1}, size=1, most=3)
    m.place()
    for worker in (0, 1, 2):
        m.started(worker)
    assert m.machine.may_grow
    assert m.look_for_room() == [], "there is none"
    m.finished(0)
    m.add("next", {"CPU": 3})
    assert m.look_for_room() == [], "somebody else waits for it"
    m.stop("next")
    told = m.look_for_room()
    assert told == ["notice info", "preempt worker-1 RESIZE", "preempt worker-2 RESIZE"]
    assert m.look_for_room() == [], "it was told"
    assert "answer worker-1 continue" in m.reported(1), "it may take its time to save"
    assert "answer worker-1 pause" in m.reported(1, iteration=2, checkpoint=0)
    m.committed("t", 0)
    m.finished(1, "pause")
    m.finished(2, "pause")
    m.verified("t", 0)
    assert sum(line.startswith("run t") for line in m.place()) == 3
    assert not m.machine.may_grow
    assert m.trial("t").preemptions == 0
