"""The machine by tables: the user or the system ends the run early."""

from __future__ import annotations

import pytest
from machines import BOOM, DIED, SIGNALLED, Driven

from milepost.control import events

# --- what runs ---------------------------------------------------------------------------------


def test_what_runs_is_told_and_stops_and_nothing_starts() -> None:
    """Trials that run stay unfinished on record; those that start are killed; none is started."""
    m = Driven(cpus=2)
    m.running("t")
    m.add("u")
    m.place()
    m.add("v")
    assert m.interrupt("SIGTERM", 17) == ["preempt worker-0 SIGTERM by=17", "kill worker-1"]
    assert m.gone(1) == ["drain u.0"]
    assert m.drained("u") == []
    assert m.place() == []
    assert m.reported(0, checkpoint=0) == ["record reported t continue", "answer worker-0 stop"]
    assert m.finished(0, "stop") == ["end worker-0"]
    assert not m.machine.is_over, "its checkpoint is not committed"
    assert m.committed("t", 0) == ["record committed t/0", "kept t/0", "ended t"]
    assert m.machine.is_over
    assert (m.trial("u").status, m.trial("v").status) == ("PENDING", "PENDING")
    assert m.machine.state.counts["TERMINATED"] == 1


def test_a_second_signal_tells_of_the_new_deadline() -> None:
    """SIGTERM after Ctrl-C: trials that are still at it learn how long they have."""
    m = Driven()
    m.running("t", "u")
    assert m.interrupt() == ["preempt worker-0 SIGINT", "preempt worker-1 SIGINT"]
    m.reported(0)
    assert m.interrupt("SIGTERM", 5) == ["preempt worker-1 SIGTERM by=5"]


@pytest.mark.parametrize("every", [0, 1, 5])
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("can_save", [False, True])
def test_a_class_saves_if_it_can(*, every: int, at_end: bool, can_save: bool) -> None:
    """Whatever its frequency settings say; one without save_checkpoint stops without."""
    m = Driven(kind="class", save_every=every, save_at_end=at_end, can_save=can_save)
    m.running("t")
    m.interrupt()
    saves = can_save or every == 1  # then the class says itself what it lacks
    assert m.reported(0)[-1] == f"answer worker-0 stop{' save' if saves else ''}"


def test_a_class_that_is_saving_does_not_make_another_step() -> None:
    """The worker stops by itself after the save, and is unfinished."""
    m = Driven(kind="class", save_every=1, can_save=True)
    m.running("t")
    assert m.reported(0)[-1] == "answer worker-0 continue save"
    assert m.interrupt() == ["preempt worker-0 SIGINT"]
    assert m.saved(0, 0) == ["record saving t/0"]
    assert m.finished(0, "stop") == ["end worker-0"]
    assert m.committed("t", 0)[-1] == "ended t"
    assert m.machine.state.counts["TERMINATED"] == 1


# --- functions get a chance to save ------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved_before", "asks", "brings", "answers"),
    [
        (False, False, False, ["stop"]),  # it does not save at all
        (False, False, True, ["stop"]),
        (True, False, False, ["continue", "stop"]),
        (False, True, False, ["continue", "stop"]),
        (True, True, False, ["continue", "stop"]),
        (True, True, True, ["stop"]),
    ],
)
def test_one_more_report_for_functions_that_save(
    *, saved_before: bool, asks: bool, brings: bool, answers: list[str]
) -> None:
    """A report without a checkpoint is not the last one of a function that can save, but once."""
    m = Driven()
    m.running("t")
    m.reported(0, checkpoint=0 if saved_before else None)
    m.interrupt()
    given = []
    while not given or given[-1] == "continue":
        told = m.reported(0, checkpoint=1 if brings else None, asks=asks)
        assert told[0] == "record reported t continue", "the trial itself was told nothing"
        given.append(told[1].split()[2])
    assert given == answers


def test_a_report_that_does_not_wait_is_not_the_last() -> None:
    """Its worker has gone on already; with the next one it waits, and brings a checkpoint."""
    m = Driven()
    m.running("t")
    m.interrupt()
    told = m.reported(0, checkpoint=0, awaited=False)
    assert told == ["record reported t continue", "answer worker-0 continue"]
    assert m.reported(0, checkpoint=1)[-1] == "answer worker-0 stop"


def test_an_earlier_attempt_does_not_count() -> None:
    """What an attempt before has saved says nothing about this one."""
    m = Driven(max_failures=1)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.committed("t", 0)
    m.failed(0)
    m.drained("t", highest=0)
    m.verified("t", 0)
    m.place()
    m.started(1)
    m.interrupt()
    assert m.reported(1)[-1] == "answer worker-1 stop"


# --- what ends anyway --------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "status"), [("stop", "TERMINATED"), ("pause", "PAUSED")])
def test_a_trial_that_would_have_stopped_anyway_has(action: str, status: str) -> None:
    """Its stopper or scheduler said so: that is on record, and it is not run again."""
    m = Driven()
    m.running("t")
    m.interrupt()
    assert m.reported(0, action) == [f"record reported t {action}", f"answer worker-0 {action}"]
    assert f"record t {status}" in m.finished(0, action)


def test_a_trial_that_was_stopping_already_has_ended() -> None:
    """Also if only the deadline ends its clean-up."""
    m = Driven()
    m.running("t", "u")
    m.reported(0, "stop")
    m.reported(1, "stop")
    assert m.interrupt() == []
    assert m.finished(0, "stop")[1:] == ["record t TERMINATED", "completed t", "ended t"]
    assert m.grace_over() == ["kill worker-1"]
    m.gone(1)
    assert m.drained("u") == ["record u TERMINATED", "completed u", "ended u"]


def test_a_class_that_saves_at_its_end_has_ended() -> None:
    """The signal comes while it saves: its end is an ordinary one."""
    m = Driven(kind="class", save_at_end=True, can_save=True)
    m.running("t")
    m.reported(0, "stop")
    m.interrupt()
    m.saved(0, 0)
    m.finished(0, "stop")
    assert m.committed("t", 0)[-3:] == ["record t TERMINATED", "completed t", "ended t"]


def test_a_function_that_returns_has_ended() -> None:
    """Its work is complete, and says so on record."""
    m = Driven()
    m.running("t")
    m.interrupt()
    assert m.finished(0) == ["end worker-0", "record t TERMINATED", "completed t", "ended t"]


def test_a_function_that_leaves_when_it_is_told_has_not_ended() -> None:
    """The worker says that it stopped, without having been answered so."""
    m = Driven()
    m.running("t")
    m.interrupt()
    assert m.finished(0, "stop") == ["end worker-0", "ended t"]


def test_a_trial_to_be_paused_that_leaves_is_paused() -> None:
    """The scheduler wanted it to pause at its next report, which does not come."""
    m = Driven()
    m.running("t")
    m.pause("t")
    m.interrupt()
    assert m.finished(0, "stop") == ["end worker-0", "record t PAUSED"]


# --- deaths and errors -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "class"])
@pytest.mark.parametrize("end", ["gone", "failed"])
@pytest.mark.parametrize("max_failures", [0, 1, -1])
def test_what_a_signal_to_the_whole_job_ends_has_not_failed(
    kind: str, end: str, max_failures: int
) -> None:
    """No failure is recorded; its captures are settled; it stays unfinished."""
    m = Driven(kind=kind, max_failures=max_failures)
    m.running("t")
    m.interrupt("SIGTERM", 9)
    told = getattr(m, end)(0, SIGNALLED)
    assert [c for c in told if not c.startswith("end ")] == ["notice info", "drain t.0"]
    assert m.drained("t") == ["ended t"]
    assert m.machine.is_over


def test_such_a_death_counts_where_that_is_asked_for() -> None:
    """RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE=1."""
    m = Driven(count_preemption=True, max_failures=1)
    m.running("t")
    m.interrupt("SIGTERM", 9)
    assert "failed t 1 retried" in m.gone(0, SIGNALLED)


def test_such_a_death_without_an_interruption_is_a_failure() -> None:
    """Somebody has ended this one worker."""
    m = Driven()
    m.running("t")
    assert "failed t 1" in m.gone(0, SIGNALLED)


@pytest.mark.parametrize(("retries", "status"), [(0, "ERROR"), (1, "PENDING")])
def test_an_error_of_its_own_is_one(*, retries: int, status: str) -> None:
    """What would have failed anyway has failed, but nothing is started again."""
    m = Driven(max_failures=retries)
    m.running("t", "u")
    m.interrupt()
    m.failed(0, BOOM)
    m.gone(1, DIED)
    m.drained("t")
    m.drained("u")
    assert m.place() == []
    assert m.machine.is_over
    assert m.machine.state.counts[status] == 2


def test_an_error_after_the_last_save_of_an_interrupted_class() -> None:
    """It was to stop because the run ends: that it has saved does not make it finished."""
    m = Driven(kind="class", can_save=True, max_failures=1)
    m.running("t")
    m.interrupt()
    assert m.reported(0)[-1] == "answer worker-0 stop save"
    m.gone(0, DIED)
    m.committed("t", 0)
    m.drained("t", highest=0)
    assert m.trial("t").status == "PENDING"


def test_a_group_that_is_signalled_has_not_failed() -> None:
    """The first death kills the others; the trial stays unfinished."""
    m = Driven()
    m.add("t", {"CPU": 1}, {"CPU": 1}, size=2)
    m.place()
    m.started(0)
    m.started(1)
    m.interrupt("SIGTERM", 9)
    assert m.gone(0, SIGNALLED) == ["notice info", "kill worker-1"]
    assert m.gone(1, SIGNALLED) == ["drain t.0"]
    assert m.drained("t") == ["ended t"]


def test_a_trial_that_hangs_is_not_waited_for() -> None:
    """Ctrl-C has no deadline, but trial_timeout_s is one; it is no failure then."""
    m = Driven(max_failures=1)
    m.running("t")
    m.interrupt()
    assert m(events.Silent(at=0, worker_id="worker-0", problem=BOOM)) == [
        "notice info",
        "kill worker-0",
    ]
    assert m.gone(0) == ["drain t.0"]
    assert m.drained("t") == ["ended t"]
    assert m.machine.is_over


# --- the deadline ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["training", "told", "saving"])
def test_the_deadline_kills_and_leaves_unfinished(phase: str) -> None:
    """Whatever it is doing; what was captured is still committed."""
    m = Driven(kind="class", can_save=True, save_every=1)
    m.running("t")
    m.interrupt("SIGTERM", 9)
    if phase != "training":
        m.reported(0)
    if phase == "told":
        m.saved(0, 0)
    assert m.grace_over() == ["kill worker-0"]
    assert m.grace_over() == []
    assert m.gone(0, SIGNALLED) == ["drain t.0"]
    if phase == "told":
        m.committed("t", 0)
    assert m.drained("t", highest=0)[-1] == "ended t"
    assert m.machine.state.counts["ERROR"] == 0
    assert m.machine.is_over


@pytest.mark.parametrize("reuse", [False, True])
def test_stop_all_and_then_a_signal(*, reuse: bool) -> None:
    """Both at once end the run too."""
    m = Driven(reuse=reuse)
    m.running("t", "u")
    m.stop_all()
    m.interrupt("SIGTERM", 9)
    m.reported(0)
    m.finished(0, "stop")
    m.grace_over()
    m.gone(1)
    m.drained("u")
    assert m.machine.is_over
