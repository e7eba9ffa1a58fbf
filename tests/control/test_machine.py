"""The machine by tables: which commands each event leads to, exactly and in order."""

from __future__ import annotations

from typing import Any

import pytest
from machines import Driven

from milepost.control.events import Problem


def test_a_trial_from_its_proposal_to_its_end() -> None:
    """A metric-only trial starts on a new worker, is answered, and ends when its function has."""
    m = Driven()
    assert m.add("t") == ["record created t"]
    assert m.place() == [
        "start worker-0 cpus=1",
        "record launched t",
        "run t on worker-0 attempt=0 first=0",
    ]
    assert m.started(0) == ["record t RUNNING"]
    assert m.reported(0) == ["record reported t continue", "answer worker-0 continue"]
    assert m.finished(0) == ["end worker-0", "record t TERMINATED", "completed t", "ended t"]
    assert m.search_ended() == []
    assert m.machine.is_over
    assert m.gone(0) == []


def test_stop_is_answered_and_the_end_waits_for_the_worker() -> None:
    """A stopped trial ends when its worker has obeyed, not before."""
    m = Driven()
    m.running("t")
    assert m.reported(0, "stop") == ["record reported t stop", "answer worker-0 stop"]
    assert m.trial("t").status == "RUNNING"
    assert m.reported(0) == ["answer worker-0 stop"], "it caught the exit and reports again"
    assert m.finished(0, "stop") == [
        "end worker-0",
        "record t TERMINATED",
        "completed t",
        "ended t",
    ]


def test_a_stopped_trial_frees_its_slot_at_once_and_ends_after_its_commit() -> None:
    """TERMINATED waits for captured checkpoints; the slot does not."""
    m = Driven(cpus=1)
    m.running("t")
    m.add("u")
    m.reported(0, "stop", checkpoint=0)
    assert m.finished(0, "stop") == ["end worker-0"]
    assert m.trial("t").status == "RUNNING"
    assert m.place() == [
        "start worker-1 cpus=1",
        "record launched u",
        "run u on worker-1 attempt=0 first=0",
    ]
    assert m.committed("t", 0) == [
        "record committed t/0",
        "kept t/0",
        "record t TERMINATED",
        "completed t",
        "ended t",
    ]


def test_results_come_before_their_checkpoints() -> None:
    """A commit that overtakes its report is told of after the report."""
    m = Driven()
    m.running("t")
    assert m.committed("t", 0) == []
    assert m.reported(0, checkpoint=0) == [
        "record reported t continue",
        "record committed t/0",
        "kept t/0",
        "answer worker-0 continue",
    ]
    assert m.committed("t", 0) == [], "a replaced keeper may tell it twice"


@pytest.mark.parametrize(("limit", "failures"), [(0, 1), (1, 2), (3, 4)])
def test_max_failures_allows_so_many_retries(limit: int, failures: int) -> None:
    """With max_failures=N a trial is tried N times more, then given up."""
    m = Driven(max_failures=limit)
    m.running("t")
    for n in range(1, failures):
        assert m.failed(n - 1) == [
            "end worker-" + str(n - 1),
            "record failure t",
            "record t PENDING",
            f"failed t {n} retried",
            f"drain t.{n - 1}",
        ]
        assert m.drained("t", n - 1) == ["recovered t"]
        m.place()
        m.started(n)
    assert m.failed(failures - 1)[1:] == [
        "record failure t",
        f"failed t {failures}",
        f"drain t.{failures - 1}",
    ]
    assert m.drained("t", failures - 1) == ["record t ERROR", "errored t", "ended t"]


def test_without_limit_a_trial_is_retried_again_and_again() -> None:
    """max_failures=-1 means without limit."""
    m = Driven(max_failures=-1)
    m.running("t")
    for n in range(20):
        assert f"failed t {n + 1} retried" in m.failed(n)
        m.drained("t", n)
        m.place()
        m.started(n + 1)


def test_a_retry_drains_then_verifies_then_starts_above_everything_known() -> None:
    """A dead worker's captures are settled first; the newest good checkpoint is the start."""
    m = Driven(max_failures=1)
    m.running("t")
    m.reported(0, iteration=1, checkpoint=0)
    m.committed("t", 0)
    m.reported(0, iteration=2, checkpoint=1)
    assert m.gone(0) == ["record failure t", "record t PENDING", "failed t 1 retried", "drain t.0"]
    assert m.place() == [], "its start is not known yet"
    assert m.committed("t", 1) == ["record committed t/1", "kept t/1"]
    # Index 2 was captured but never announced; index 4 was an incomplete intent.
    assert m.committed("t", 2) == ["record committed t/2", "kept t/2"]
    assert m.drained("t", highest=4) == ["verify t [2, 1, 0] contents"]
    assert m.verified("t", 2) == ["recovered t"]
    assert m.place() == [
        "start worker-1 cpus=1",
        "record launched t",
        "run t on worker-1 attempt=1 first=5 from=2",
    ]


def test_bad_checkpoints_are_given_up_for_the_next_older_good_one() -> None:
    """What fails verification is recorded as lost and never used again."""
    m = Driven(max_failures=-1)
    m.running("t")
    for index in range(3):
        m.reported(0, checkpoint=index)
        m.committed("t", index)
    m.gone(0)
    m.drained("t", highest=2)
    assert m.verified("t", 0) == ["record lost t/2", "record lost t/1", "recovered t"]
    assert m.place()[-1] == "run t on worker-1 attempt=1 first=3 from=0"
    m.started(1)
    m.gone(1)
    assert m.drained("t", 1) == ["verify t [0] contents"]
    assert m.verified("t", None) == ["record lost t/0", "notice warning", "recovered t"]
    assert m.place()[-1] == "run t on worker-2 attempt=2 first=3"


def test_a_report_whose_capture_the_keeper_does_not_have_is_lost_loudly() -> None:
    """A drain ends the wait for every capture of the attempt."""
    m = Driven()
    m.running("t")
    m.reported(0, checkpoint=0)
    m.gone(0)
    assert m.drained("t") == [
        "record lost t/0",
        "notice warning",
        "record t ERROR",
        "errored t",
        "ended t",
    ]


def test_a_failed_commit_fails_the_trial_at_its_next_report() -> None:
    """The worker is told to stop, and the attempt counts as failed."""
    m = Driven(max_failures=1)
    m.running("t")
    m.reported(0, checkpoint=0)
    assert m.commit_failed("t", 0) == ["record lost t/0"]
    assert m.reported(0) == ["record reported t stop", "answer worker-0 stop"]
    assert m.finished(0, "stop") == [
        "end worker-0",
        "record failure t",
        "record t PENDING",
        "failed t 1 retried",
        "drain t.0",
    ]


def test_a_failed_commit_that_the_worker_raises_counts_once() -> None:
    """The keeper tells driver and worker; that is one failure, in whatever order."""
    raised = Problem(kind="CheckpointFailedError", message="bad disk", traceback="...")
    m = Driven(max_failures=5)
    m.running("t", "u")
    m.reported(0, checkpoint=0)
    m.reported(1, checkpoint=0)
    m.commit_failed("t", 0)
    assert "failed t 1 retried" in m.failed(0, raised)
    assert "failed u 1 retried" in m.failed(1, raised)
    assert m.commit_failed("u", 0) == ["record lost u/0", "notice warning"]
    assert (m.trial("t").failures, m.trial("u").failures) == (1, 1)


def test_a_failed_commit_of_a_trial_that_has_stopped_fails_it() -> None:
    """A trial that reached its end without its last checkpoint is not TERMINATED."""
    m = Driven()
    m.running("t")
    m.reported(0, "stop", checkpoint=0)
    m.finished(0, "stop")
    assert m.commit_failed("t", 0) == [
        "record lost t/0",
        "record failure t",
        "failed t 1",
        "drain t.0",
    ]
    assert m.drained("t") == ["record t ERROR", "errored t", "ended t"]


def test_a_commit_that_failed_before_its_report_arrived_is_not_awaited() -> None:
    """The report of a capture that is lost already leaves nothing to wait for."""
    m = Driven()
    m.running("t")
    m.commit_failed("t", 0)
    m.reported(0, checkpoint=0)
    assert not m.trial("t").inflight


def test_a_full_disk_is_not_retried_for_ever() -> None:
    """Without a limit of retries, a second loss in a row for want of room gives the trial up."""
    m = Driven(max_failures=-1)
    m.running("t")
    for attempt in range(2):
        m.reported(attempt, checkpoint=attempt)
        m.commit_failed("t", attempt, attempt, full=True)
        m.reported(attempt)
        told = m.finished(attempt, "stop")
        if attempt == 0:
            assert "failed t 1 retried" in told
            m.drained("t", 0)
            m.place()
            m.started(1)
    assert "failed t 2" in told
    assert m.drained("t", 1) == ["record t ERROR", "errored t", "ended t"]


def test_a_full_disk_that_had_room_in_between_is_retried() -> None:
    """A commit shows that there is room again."""
    m = Driven(max_failures=-1)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.commit_failed("t", 0, full=True)
    m.reported(0)
    m.finished(0, "stop")
    m.drained("t", 0)
    m.place()
    m.started(1)
    m.reported(1, checkpoint=1)
    m.committed("t", 1, 1)
    m.reported(1, checkpoint=2)
    m.commit_failed("t", 2, 1, full=True)
    m.reported(1)
    assert "failed t 2 retried" in m.finished(1, "stop")


def test_what_aborts_is_not_retried() -> None:
    """A trial that cannot take over a process fails at once."""
    m = Driven(max_failures=-1)
    m.running("t")
    abort = Problem(kind="RuntimeError", message="reset_config()", abort=True)
    assert "failed t 1" in m.failed(0, abort)


def test_fail_fast_ends_the_run_at_the_first_failure() -> None:
    """The failed trial is ERROR; all others end without ceremony."""
    m = Driven(fail_fast=True, cpus=2)
    m.running("t", "u")
    m.add("v")
    assert m.failed(0) == [
        "end worker-0",
        "record failure t",
        "failed t 1",
        "drain t.0",
        "record v TERMINATED",
        "ended v",
    ]
    assert m.drained("t") == ["record t ERROR", "errored t", "ended t"]
    assert m.reported(1) == ["record reported u stop", "answer worker-1 stop"]
    assert m.finished(1, "stop") == ["end worker-1", "record u TERMINATED", "ended u"]
    assert m.machine.is_over


def test_a_worker_that_dies_while_it_starts_is_a_failure() -> None:
    """So is one that could not be started at all."""
    m = Driven(max_failures=1)
    m.add("t")
    m.place()
    assert m.gone(0) == ["record failure t", "failed t 1 retried", "drain t.0"]
    m.drained("t")
    m.place()
    assert "failed t 2" in m.gone(1)


def test_an_error_while_obeying_does_not_overturn_the_decision() -> None:
    """What a trial's clean-up raises is a warning: its results and checkpoints stand."""
    m = Driven()
    m.running("t", "u")
    m.reported(0, "stop")
    assert m.failed(0) == ["notice warning", "end worker-0", "drain t.0"]
    assert m.drained("t") == ["record t TERMINATED", "completed t", "ended t"]
    m.reported(1, "pause")
    assert m.gone(1) == ["notice warning", "drain u.0"]
    assert m.drained("u") == ["record u PAUSED"]


def test_a_trial_that_does_not_obey_is_killed() -> None:
    """Its patience over, the trial goes on to where it was told to go."""
    m = Driven()
    m.running("t")
    m.reported(0, "pause")
    assert m.overdue("t") == ["notice warning", "kill worker-0"]
    assert m.overdue("t") == []
    assert m.gone(0) == ["drain t.0"]
    assert m.drained("t") == ["record t PAUSED"]


# --- pausing ---------------------------------------------------------------------------------


def test_a_paused_trial_goes_on_from_its_checkpoint() -> None:
    """Pausing waits for the commit; going on verifies sizes only, for nothing went wrong."""
    m = Driven()
    m.running("t")
    m.reported(0, "pause", checkpoint=0)
    assert m.finished(0, "pause") == ["end worker-0"]
    assert m.committed("t", 0) == ["record committed t/0", "kept t/0", "record t PAUSED"]
    assert m.place() == [], "only the scheduler continues paused trials"
    assert m.unpause("t") == ["record t PENDING", "verify t [0]"]
    assert m.verified("t", 0) == []
    assert m.place()[-1] == "run t on worker-1 attempt=1 first=1 from=0"


def test_the_scheduler_chooses_who_goes_on() -> None:
    """Its choice starts before others; a paused one goes to the front of the queue."""
    m = Driven(cpus=1)
    m.add("t")
    m.add("u")
    assert m.place("u")[-1] == "run u on worker-0 attempt=0 first=0"
    m.started(0)
    m.reported(0, "pause")
    m.finished(0, "pause")
    m.add("v")
    assert m.place("u") == [
        "record u PENDING",
        "start worker-1 cpus=1",
        "record launched u",
        "run u on worker-1 attempt=1 first=0",
    ]


def test_pausing_others() -> None:
    """A waiting trial is paused at once, a running one at its next report."""
    m = Driven(cpus=1)
    m.running("t")
    m.add("u")
    assert m.pause("u") == ["record u PAUSED"]
    assert m.pause("t") == []
    assert m.reported(0) == ["record reported t pause", "answer worker-0 pause"]
    assert m.finished(0, "pause") == ["end worker-0", "record t PAUSED"]


def test_pausing_a_trial_that_ends_by_itself() -> None:
    """A function that returns before its next report has ended."""
    m = Driven()
    m.running("t")
    m.pause("t")
    assert "record t TERMINATED" in m.finished(0, "returned")


def test_stopping_others() -> None:
    """A waiting or paused trial ends at once, without a last result; a running one later."""
    m = Driven(cpus=1)
    m.running("t")
    m.add("u")
    m.add("v")
    m.pause("v")
    assert m.stop("u") == ["record u TERMINATED", "completed u unrun", "ended u"]
    assert m.stop("v") == ["record v TERMINATED", "completed v unrun", "ended v"]
    assert m.stop("t") == []
    assert m.reported(0) == ["record reported t stop", "answer worker-0 stop"]
    assert "completed t" in m.finished(0, "stop")


def test_stopping_a_trial_that_is_pausing() -> None:
    """It ends instead."""
    m = Driven()
    m.running("t")
    m.reported(0, "pause")
    m.stop("t")
    assert "record t TERMINATED" in m.finished(0, "pause")


# --- saving by classes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "action", "asked", "saves"),
    [
        (1, "continue", False, False),
        (2, "continue", False, True),  # every second
        (1, "continue", True, True),  # should_checkpoint
        (2, "continue", True, True),  # both: one save
        (1, "stop", False, True),  # at the end
        (2, "stop", True, True),  # all three: one save
        (1, "pause", False, True),  # a pause saves
    ],
)
def test_when_a_class_saves(iteration: int, action: str, *, asked: bool, saves: bool) -> None:
    """A result is saved at most once, whatever asks for it."""
    m = Driven(kind="class", save_every=2, save_at_end=True)
    m.running("t")
    told = m.reported(0, action, iteration=iteration, save=asked)
    assert told[-1] == f"answer worker-0 {action}{' save' if saves else ''}"


def test_a_class_saves_then_ends() -> None:
    """The checkpoint at the end belongs to the last result, and the end waits for its commit."""
    m = Driven(kind="class", save_at_end=True)
    m.running("t")
    m.reported(0, "stop", iteration=7, score=3)
    assert m.saved(0, 0) == ["record saving t/0"]
    assert m.finished(0, "stop") == ["end worker-0"]
    told = m.committed("t", 0)
    assert told[-1] == "ended t"
    assert "completed t" in told


def test_a_class_goes_on_after_a_save() -> None:
    """A save in between changes nothing else; one without files is no checkpoint."""
    m = Driven(kind="class", save_every=1)
    m.running("t")
    m.reported(0)
    assert m.saved(0, None) == []
    assert m.reported(0, iteration=2) == [
        "record reported t continue",
        "answer worker-0 continue save",
    ]
    assert m.saved(0, 0) == ["record saving t/0"]
    assert m.trial("t").inflight.keys() == {0}


def test_functions_save_by_themselves() -> None:
    """For the function API, options about saving do nothing here."""
    m = Driven(save_every=1, save_at_end=True)
    m.running("t")
    assert m.reported(0, "stop", save=True)[-1] == "answer worker-0 stop"


def test_a_pause_without_saving() -> None:
    """A scheduler can pause a class trial as it is."""
    m = Driven(kind="class")
    m.running("t")
    m.pause("t", save=False)
    assert m.reported(0)[-1] == "answer worker-0 pause"


# --- keeping and deleting --------------------------------------------------------------------


def test_what_is_not_worth_keeping_goes_when_another_is_committed() -> None:
    """Deleting is recorded first; the latest stays whatever its score."""
    m = Driven(keep=1, rank_by="acc")
    m.running("t")
    m.reported(0, checkpoint=0, score=5)
    assert m.committed("t", 0) == ["record committed t/0", "kept t/0"]
    m.reported(0, checkpoint=1, score=3)
    assert m.committed("t", 1) == ["record committed t/1", "kept t/1"]
    m.reported(0, checkpoint=2, score=9)
    assert m.committed("t", 2) == [
        "record committed t/2",
        "kept t/2",
        "record deleting t/0",
        "delete t/0",
        "record deleting t/1",
        "delete t/1",
    ]
    assert m.deleted("t", 0) == ["record deleted t/0"]
    assert m.deleted("t", 1, "gone") == ["record deleted t/1"]


def test_a_busy_checkpoint_is_tried_again_at_the_next_commit_and_at_the_end() -> None:
    """A reader holds a checkpoint; it goes later, and the run waits for that."""
    m = Driven(keep=1)
    m.running("t")
    for index in range(3):
        m.reported(0, checkpoint=index)
    m.committed("t", 0)
    m.committed("t", 1)
    assert m.deleted("t", 0, "busy") == []
    assert m.committed("t", 2)[2:] == ["record deleting t/1", "delete t/1", "delete t/0"]
    m.deleted("t", 1)
    m.deleted("t", 0, "busy")
    m.finished(0)
    assert m.search_ended() == ["delete t/0"]
    assert not m.machine.is_over
    assert m.deleted("t", 0, "busy") == ["notice warning"]
    assert m.machine.is_over


def test_a_deletion_that_is_under_way_is_awaited() -> None:
    """The run is over only when the keeper has answered."""
    m = Driven(keep=1)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.reported(0, checkpoint=1)
    m.committed("t", 0)
    m.committed("t", 1)
    m.finished(0)
    m.search_ended()
    assert not m.machine.is_over
    m.deleted("t", 0)
    assert m.machine.is_over


# --- ending the run ---------------------------------------------------------------------------


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


def test_stop_all_does_not_retry() -> None:
    """A trial that fails on the way out is ERROR."""
    m = Driven(max_failures=-1)
    m.running("t")
    m.stop_all()
    assert "failed t 1" in m.failed(0)


def test_interruption_leaves_unfinished_trials_unfinished() -> None:
    """Running trials stop at their next report without a record of an end; nothing starts."""
    m = Driven(cpus=2)
    m.running("t")
    m.add("u")
    m.place()
    m.add("v")
    assert m.interrupt() == ["kill worker-1"]
    assert m.gone(1) == ["drain u.0"]
    assert m.drained("u") == []
    assert m.place() == []
    assert m.reported(0, checkpoint=0) == ["record reported t stop", "answer worker-0 stop"]
    assert m.finished(0, "stop") == ["end worker-0"]
    assert not m.machine.is_over, "its checkpoint is not committed"
    assert m.committed("t", 0) == ["record committed t/0", "kept t/0", "ended t"]
    assert m.machine.is_over
    assert (m.trial("u").status, m.trial("v").status) == ("PENDING", "PENDING")
    assert m.machine.state.counts["TERMINATED"] == 1


@pytest.mark.parametrize(
    ("settings", "saves"), [({"save_at_end": True}, True), ({"save_every": 5}, True), ({}, False)]
)
def test_interruption_saves_classes_that_save_at_all(
    settings: dict[str, object], *, saves: bool
) -> None:
    """A class whose checkpoints are switched off may not be able to save."""
    m = Driven(kind="class", **settings)
    m.running("t")
    m.interrupt()
    assert m.reported(0)[-1] == f"answer worker-0 stop{' save' if saves else ''}"


def test_a_function_that_returns_during_an_interruption_has_ended() -> None:
    """Its work is complete, and says so on record."""
    m = Driven()
    m.running("t")
    m.interrupt()
    assert m.finished(0) == ["end worker-0", "record t TERMINATED", "completed t", "ended t"]


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


# --- reuse --------------------------------------------------------------------------------------


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


# --- several workers ------------------------------------------------------------------------------


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
