"""The machine by tables: which commands each event leads to, exactly and in order."""

from __future__ import annotations

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
    assert m.committed("t", 2) == ["judge t/2"], "nobody has seen its result"
    assert m.judged("t", 2) == ["record reported t continue", "record committed t/2", "kept t/2"]
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
        "ended v",  # on record it is unfinished, so that it can be gone on with
    ]
    assert m.drained("t") == ["record t ERROR", "errored t", "ended t"]
    assert m.reported(1) == ["record reported u stop", "answer worker-1 stop"]
    assert m.finished(1, "stop") == ["end worker-1", "ended u"]
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


def test_failing_to_restore_can_be_excused() -> None:
    """So many failed starts from a checkpoint in a row do not count as failures."""
    m = Driven(max_failures=1, restore_retries=1)
    m.running("t")
    m.reported(0, checkpoint=0)
    m.committed("t", 0)
    assert "failed t 1 retried" in m.gone(0)
    for worker, told in ((1, "failed t 1 retried"), (2, "failed t 2")):
        m.drained("t", worker - 1)
        m.verified("t", 0)
        m.place()
        assert told in m.failed(worker)
