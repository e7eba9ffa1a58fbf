"""The machine by tables: the end of a run, resources, reuse, groups."""

from __future__ import annotations

from typing import Any

from machines import Driven

# --- ending the run ----------------------------------------------------------------------------


def test_stop_all_ends_what_waits_and_lets_what_runs_reach_a_report() -> None:
    """No hooks, no checkpoint at the end; what does not report is killed."""
    m = Driven(kind="class", cpus=3, save_at_end=True)
    m.running("t", "u")
    m.add("v")
    m.place()
    m.add("w")
    assert m.stop_all() == ["kill worker-2", "record w TERMINATED", "ended w"]
    assert m.reported(0) == ["record reported t stop", "answer worker-0 stop"]
    assert m.finished(0, "stop") == ["end worker-0", "record t TERMINATED", "ended t"]
    assert m.grace_over() == ["kill worker-1"]
    assert m.gone(1) == ["drain u.0"]
    assert m.drained("u") == ["record u TERMINATED", "ended u"]
    assert m.gone(2) == ["drain v.0"]
    assert m.drained("v") == ["record v TERMINATED", "ended v"]
    assert m.machine.is_over


def test_those_who_do_not_wait_for_answers_are_told_to() -> None:
    """Whatever ends the run, their next report is to wait, and is the last one."""
    m = Driven(judged=False)
    m.running("t")
    assert m.reported(0, awaited=False)[-1] == "answer worker-0 continue"
    assert m.stop_all() == ["attend worker-0"]
    assert m.reported(0, awaited=False)[-1] == "answer worker-0 continue", "on its way"
    assert m.reported(0)[-1] == "answer worker-0 stop"


def test_a_lost_checkpoint_is_told_of_at_the_next_report() -> None:
    """Also to those who do not wait for answers; the others wait anyway."""
    for judged in (True, False):
        m = Driven(judged=judged)
        m.running("t")
        m.reported(0, checkpoint=0, awaited=judged)
        told = m.commit_failed("t", 0)
        assert ("attend worker-0" in told) is not judged
        assert m.reported(0)[-1] == "answer worker-0 stop"


def test_stop_all_does_not_retry() -> None:
    """A trial that fails on the way out is ERROR."""
    m = Driven(max_failures=-1)
    m.running("t")
    m.stop_all()
    assert "failed t 1" in m.failed(0)


# --- resources ---------------------------------------------------------------------------------


def test_what_can_never_be_met_ends_the_run_at_once() -> None:
    """The message names what is asked for and what there is."""
    m = Driven(cpus=2)
    assert m.add("t", {"CPU": 3}) == ["abort"]


def test_the_limit_of_concurrent_trials() -> None:
    """As many run as allowed, though more would fit."""
    m = Driven(max_concurrent=2)
    for trial in "tuv":
        m.add(trial)
    assert sum("run" in command for command in m.place()) == 2
    assert not m.machine.has_room


def test_fractions_of_gpus_share_one_and_whole_ones_do_not() -> None:
    """Halves fill one GPU before another is begun; a process sees only its own."""
    m = Driven(gpus=("0", "1"))
    for trial in "abc":
        m.add(trial, {"GPU": 0.5})
    assert [c for c in m.place() if c.startswith("start")] == [
        "start worker-0 cpus=0 gpus=0",
        "start worker-1 cpus=0 gpus=0",
        "start worker-2 cpus=0 gpus=1",
    ]
    m.add("d", {"GPU": 1})
    assert m.place() == []


def test_gpus_are_free_when_their_process_has_exited() -> None:
    """A process that ends still holds the GPU's memory; CPUs are free at once."""
    m = Driven(gpus=("0",))
    m.add("t", {"GPU": 1})
    m.add("u", {"GPU": 1})
    m.place()
    m.started(0)
    m.finished(0)
    assert m.place() == []
    m.gone(0)
    assert m.place()[-1] == "run u on worker-1 attempt=0 first=0"


def test_a_large_trial_gets_its_turn() -> None:
    """It is overtaken by small ones a bounded number of times."""
    m = Driven(cpus=2)
    m.running("small")
    m.add("large", {"CPU": 2})
    started = 0
    for n in range(40):
        m.add(f"s{n}")
        for command in m.place():
            if command.startswith("run s"):
                started += 1
                worker = int(command.split()[3].removeprefix("worker-"))
                m.started(worker)
                m.finished(worker)
    assert started == 16
    m.finished(0)
    assert m.place()[-1].startswith("run large")


# --- reuse -------------------------------------------------------------------------------------


def test_a_worker_is_reused_for_the_same_request() -> None:
    """It goes from trial to trial with a reset, and keeps its resources in between."""
    m = Driven(reuse=True, cpus=1)
    m.running("t")
    m.add("u")
    assert m.finished(0) == ["record t TERMINATED", "completed t", "ended t"]
    assert m.place() == ["record launched u", "run u on worker-0 attempt=0 first=0 reset"]


def test_an_idle_worker_makes_room_for_another_request() -> None:
    """What it holds is freed when a trial needs it."""
    m = Driven(reuse=True, cpus=2)
    m.running("t")
    m.finished(0)
    m.add("u", {"CPU": 2})
    assert m.place() == [
        "end worker-0",
        "start worker-1 cpus=2",
        "record launched u",
        "run u on worker-1 attempt=0 first=0",
    ]


def test_a_worker_that_failed_is_not_reused() -> None:
    """Nor one that nobody can need any more."""
    m = Driven(reuse=True, max_failures=1)
    m.running("t")
    assert m.failed(0)[0] == "end worker-0"
    m.drained("t")
    m.search_ended()
    m.place()
    m.started(1)
    assert m.finished(1)[0] == "end worker-1"


def test_an_idle_worker_may_die() -> None:
    """Then its resources are free and nobody has failed."""
    m = Driven(reuse=True, cpus=1)
    m.running("t")
    m.finished(0)
    assert m.gone(0) == []
    m.add("u")
    assert m.place()[0] == "start worker-1 cpus=1"


# --- several workers ---------------------------------------------------------------------------


def group(**settings: Any) -> Driven:
    """A trial of two workers that trains, each with a bundle of its own."""
    m = Driven(gpus=("a", "b"), **settings)
    m.add("t", {"CPU": 1, "GPU": 1}, {"CPU": 2, "GPU": 1}, size=2)
    assert m.place() == [
        "start worker-0 cpus=1 gpus=a",
        "start worker-1 cpus=2 gpus=b",
        "record launched t",
        "run t on worker-0 attempt=0 first=0",
        "run t on worker-1 attempt=0 first=0",
    ]
    return m


def test_a_group_starts_and_ends_together() -> None:
    """The trial runs when all of its workers do, and has ended when all have."""
    m = group()
    assert m.started(1) == []
    assert m.started(0) == ["record t RUNNING"]
    assert m.finished(0) == []
    assert m.finished(1) == [
        "end worker-0",
        "end worker-1",
        "record t TERMINATED",
        "completed t",
        "ended t",
    ]


def test_one_of_a_group_ends_before_another_starts() -> None:
    """Its function may have had nothing to do; the trial ends with the last one."""
    m = group()
    m.started(0)
    assert m.finished(0) == []
    assert m.started(1) == ["record t RUNNING"]
    assert m.finished(1)[-2:] == ["completed t", "ended t"]


def test_a_group_fails_together() -> None:
    """When one worker dies the others are killed, and only then are captures settled."""
    m = group(max_failures=1)
    m.started(0)
    m.started(1)
    assert m.gone(1) == ["kill worker-0"]
    assert m.gone(0) == ["record failure t", "record t PENDING", "failed t 1 retried", "drain t.0"]
    m.drained("t")
    assert len(m.place()) == 5


def test_a_group_is_killed_when_one_raises() -> None:
    """The error that was raised is the one that counts."""
    m = group()
    m.started(0)
    m.started(1)
    assert m.failed(0) == ["kill worker-0", "kill worker-1"]
    assert m.gone(0) == []
    assert m.gone(1) == ["record failure t", "failed t 1", "drain t.0"]
