"""Trials whose workers the engine has taken along when one of its own processes died."""

from __future__ import annotations

import pytest
from machines import TAKEN, Driven

from milepost.journal import records


def die(m: Driven, worker: int) -> list[str]:
    """The engine's process dies while the trial runs on this worker; it is started again."""
    said = m.gone(worker, TAKEN)
    if "t" in m.machine.trials:
        m.drained("t", m.trial("t").attempt)
        m.place()
    return said


def test_it_goes_on_at_once_without_a_failure() -> None:
    """No retry is used up, nothing is recorded as a failure, nobody is told of one."""
    m = Driven(max_failures=0)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.committed("t", 0)
    assert m.gone(0, TAKEN) == ["record t PENDING", "notice warning", "drain t.0"]
    assert m.drained("t", highest=0) == ["verify t [0] contents"]
    m.verified("t", 0)
    assert "run t on worker-1 attempt=1 first=1 from=0" in m.place()
    assert m.trial("t").failures == 0
    assert not any(isinstance(record, records.Failure) for record in m.journal)


@pytest.mark.parametrize(
    ("reports_after", "fails_at"),
    [((), 3), ((1,), 4), ((2,), 5), ((1, 3), 6)],
    ids=["never", "after the first", "after the second", "twice"],
)
def test_three_in_a_row_without_a_report_count(
    reports_after: tuple[int, ...], fails_at: int
) -> None:
    """What a trial reports in between shows that it is not what kills the engine."""
    m = Driven(max_failures=0)
    m.running("t")
    for death in range(1, 10):
        if "failed t 1" in die(m, death - 1):
            break
        m.started(death)
        if death in reports_after:
            m.reported(death)
    assert death == fails_at


def test_those_that_count_use_up_retries() -> None:
    """From the third one on, each does, until the trial reports."""
    m = Driven(max_failures=1)
    m.running("t")
    said = [die(m, number) for number in range(4)]
    assert [each for death in said for each in death if each.startswith("failed")] == [
        "failed t 1 retried",
        "failed t 2",
    ]


def test_a_trial_that_was_only_starting_goes_on_too() -> None:
    """Whether its worker was there already, or was never made."""
    m = Driven(max_failures=0)
    m.add("t")
    m.place()
    assert m.gone(0, TAKEN) == ["notice warning", "drain t.0"]
    m.drained("t")
    assert "run t on worker-1 attempt=1 first=0" in m.place()


def test_a_group_goes_on_when_all_its_workers_are_gone() -> None:
    """It has several workers, and counts one death."""
    m = Driven(max_failures=0)
    m.add("t", {"CPU": 1}, {"CPU": 1}, size=2)
    m.place()
    m.started(0)
    m.started(1)
    assert m.gone(0, TAKEN) == ["kill worker-1"]
    assert m.gone(1, TAKEN) == ["record t PENDING", "notice warning", "drain t.0"]
    assert m.trial("t").engine_deaths == 1


def test_it_counts_where_preemption_does() -> None:
    """RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE=1."""
    m = Driven(max_failures=0, count_preemption=True)
    m.running("t")
    assert "failed t 1" in m.gone(0, TAKEN)


def test_one_whose_checkpoint_is_lost_has_failed() -> None:
    """It was going to fail at its next report."""
    m = Driven(max_failures=0)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.commit_failed("t", 0)
    assert "failed t 1" in m.gone(0, TAKEN)


@pytest.mark.parametrize("ask", ["stop", "stop_all"])
def test_one_that_was_to_stop_ends(ask: str) -> None:
    """It need not be started again only to be told to stop; that is no failure either."""
    m = Driven(max_failures=0)
    m.running("t")
    m.stop("t") if ask == "stop" else m.stop_all()
    assert m.gone(0, TAKEN) == ["notice warning", "drain t.0"]
    said = m.drained("t")
    assert "record t TERMINATED" in said
    assert ("completed t" in said) is (ask == "stop")
    assert said[-1] == "ended t"


def test_one_that_is_interrupted_stays_unfinished() -> None:
    """As with any end that comes with that of the run."""
    m = Driven(max_failures=0)
    m.running("t")
    m.interrupt("SIGTERM", 9)
    assert m.gone(0, TAKEN) == ["notice info", "drain t.0"]
    assert m.drained("t") == ["ended t"]
    assert "t" in m.machine.state.unfinished
