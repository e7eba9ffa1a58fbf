"""The machine: how trials of an earlier run come back."""

from __future__ import annotations

from typing import Any

import pytest
from machines import RAW, Driven

from milepost.control import events
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.resources import request_of
from milepost.control.state import Phase


def stored(*indices: int, iteration: int = 1) -> tuple[Checkpoint, ...]:
    return tuple(
        Checkpoint(index=i, path=f"/exp/t/checkpoint_{i:06d}", iteration=iteration, row=RAW)
        for i in indices
    )


def begin(m: Driven, *, next_order: int = 9, **ended: int) -> list[str]:
    counts: Any = {"TERMINATED": 0, "ERROR": 0, **ended}
    return m(events.RunRestored(at=0, ended=counts, next_order=next_order))


def adopt(m: Driven, index: int, attempt: int = 0) -> list[str]:
    return m(
        events.Committed(
            at=0, trial_id="t", attempt=attempt, index=index, iteration=2, path=f"/exp/t/{index}",
            nbytes=1, digest="d", row=RAW, adopted=True,
        )
    )  # fmt: skip


def test_a_running_trial_settles_verifies_and_goes_on() -> None:
    """It drains all attempts, compares contents, and starts above every number."""
    m = Driven()
    begin(m)
    assert m.restored(
        "t", status="RUNNING", attempt=1, next_index=6, checkpoints=stored(0, 4), unclean=True
    ) == ["drain t.None"]
    assert m.trial("t").status == "RUNNING", "until all that it did is known"
    assert m.drained("t", None, 7) == ["record t PENDING", "verify t [4, 0] contents"]
    assert m.place() == []
    assert m.verified("t", 4) == []
    assert m.place() == [
        "start worker-0 cpus=1",
        "record launched t",
        "run t on worker-0 attempt=2 first=8 from=4",
    ]


def test_checkpoints_without_a_record_are_adopted_before_anything_else() -> None:
    """First their report is judged; then they are as good as any other."""
    m = Driven()
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=2, checkpoints=stored(0))
    assert adopt(m, 1) == ["judge t/1"]
    assert m.judged("t", 1, iteration=2) == [
        "record reported t continue", "record committed t/1", "kept t/1",
    ]  # fmt: skip
    assert m.drained("t", None) == ["record t PENDING", "verify t [1, 0]"]


@pytest.mark.parametrize(("action", "end"), [("stop", "TERMINATED"), ("pause", "PAUSED")])
def test_an_adopted_report_decides_as_any_other(action: str, end: str) -> None:
    """The trial does not go past the point where it should have stopped."""
    m = Driven()
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=1)
    adopt(m, 0)
    m.judged("t", 0, action)
    told = m.drained("t", None)
    assert told[0] == f"record t {end}"
    assert "verify" not in " ".join(told)


def test_a_report_on_record_is_not_recorded_again() -> None:
    """Only its checkpoint is new, and the trial stays at its last iteration."""
    m = Driven()
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=0, iteration=5)
    assert adopt(m, 0) == ["judge t/0"]
    assert m.judged("t", 0, iteration=3, on_record=True) == ["record committed t/0", "kept t/0"]
    assert m.trial("t").iteration == 5
    assert m.trial("t").checkpoints[0].iteration == 3
    assert m.drained("t", None) == ["record t PENDING", "verify t [0]"]


def test_a_class_has_reported_before_it_saves() -> None:
    """A checkpoint of the last row on record is not a result once more."""
    m = Driven(kind="class")
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=0, iteration=2)
    assert adopt(m, 0) == ["record saving t/0", "record committed t/0", "kept t/0"]


def test_a_keeper_that_tells_of_what_was_adopted_is_late() -> None:
    """Nothing is recorded twice."""
    m = Driven()
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=1)
    adopt(m, 0)
    m.judged("t", 0)
    assert m.committed("t", 0) == []


def test_captures_that_nobody_has_are_lost() -> None:
    """The keeper has committed what it could; the rest is given up, loudly."""
    m = Driven()
    begin(m)
    inflight = {1: Capture(1, RAW, None), 2: Capture(2, RAW, None)}
    m.restored("t", status="RUNNING", attempt=0, next_index=3, inflight=inflight)
    assert m.committed("t", 1) == ["record committed t/1", "kept t/1"]
    assert m.drained("t", None)[:2] == ["record lost t/2", "notice warning"]


def test_checkpoints_that_are_gone_are_recorded_as_lost() -> None:
    """At once; people are told of all of them together."""
    m = Driven()
    begin(m)
    told = m.restored("t", status="RUNNING", attempt=0, next_index=2, missing=((1, "it is gone"),))
    assert told == ["record lost t/1", "drain t.None"]


def test_trials_that_were_begun_come_first() -> None:
    """The others wait until the start of each is known, new ones too."""
    m = Driven(cpus=1)
    begin(m)
    m.restored("old", status="RUNNING", attempt=0, order=1)
    m.restored("never", order=0)
    assert m.drained("never", None) == []
    m.add("new")
    assert m.place() == [], "they are held"
    m.drained("old", None)
    assert m.place()[-1].startswith("run old")
    assert list(m.machine.state.queue) == ["never", "new"]
    assert m.trial("new").order == 9


def test_a_held_trial_can_be_stopped_and_paused() -> None:
    """It is let go of like any other that waits."""
    m = Driven()
    begin(m)
    m.restored("old", status="RUNNING", attempt=0)
    for trial in ("a", "b"):
        m.restored(trial)
        m.drained(trial, None)
    assert m.stop("a") == ["record a TERMINATED", "completed a unrun", "ended a"]
    m.pause("b")
    m.drained("old", None)
    assert list(m.machine.state.queue) == ["old"]
    assert m.unpause("b") == ["record b PENDING"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"goal": "PAUSED", "status": "PAUSED", "attempt": 0}, []),
        ({"goal": "PAUSED", "status": "RUNNING", "attempt": 0}, ["record t PAUSED"]),
        ({"goal": "TERMINATED", "status": "RUNNING", "attempt": 0},
         ["record t TERMINATED", "completed t", "ended t"]),
        ({"goal": "TERMINATED"}, ["record t TERMINATED", "completed t unrun", "ended t"]),
        ({"goal": "ERROR", "status": "RUNNING", "attempt": 0},
         ["record t ERROR", "errored t", "ended t"]),
        ({"goal": "PENDING", "status": "ERROR", "attempt": 0}, []),
    ],
)  # fmt: skip
def test_goals(fields: dict[str, Any], told: list[str]) -> None:
    """Each is reached when everything is settled."""
    m = Driven(fail_fast=True)
    begin(m)
    m.restored("t", **fields)
    assert m.drained("t", None) == told
    m.search_ended()
    assert not m.machine.state.stopping, "an old failure ends no new run"


def test_an_end_without_its_checkpoint_is_gone_back_from() -> None:
    """A trial that was told to stop and could not save does its last part again."""
    for iteration, told in ((2, "record t TERMINATED"), (3, "notice info")):
        m = Driven(kind="class", save_at_end=True)
        begin(m)
        m.restored(
            "t", status="RUNNING", attempt=0, next_index=1, goal="TERMINATED",
            iteration=iteration, checkpoints=stored(0, iteration=2), needs_last_save=True,
        )  # fmt: skip
        assert m.drained("t", None)[0] == told


def test_nothing_is_deleted_before_the_start_is_chosen() -> None:
    """The newest may turn out to be bad, and then an older one is the start."""
    m = Driven(keep=1)
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=3, checkpoints=stored(0, 1, 2))
    m.drained("t", None)
    assert m.verified("t", 1) == ["record lost t/2", "record deleting t/0", "delete t/0"]


def test_deleting_goes_on() -> None:
    """Of trials that have ended, too; the run is not over before it is done."""
    m = Driven()
    begin(m, TERMINATED=1)
    told = m(events.DeletionLeft(at=0, trial_id="t", index=3, path="/exp/t/checkpoint_000003"))
    assert told == ["delete t/3"]
    m.search_ended()
    assert not m.machine.is_over
    assert m.deleted("t", 3, "gone") == ["record deleted t/3"]
    assert m.machine.is_over
    assert m.machine.state.counts["TERMINATED"] == m.machine.state.created == 1


def test_a_trial_that_asks_for_too_much_ends_the_restore() -> None:
    """Nothing has happened to it."""
    m = Driven(cpus=2)
    begin(m)
    assert m.restored("t", request=request_of([{"CPU": 8}])) == ["abort"]
    assert not m.machine.trials
    assert m.restored("u", request=request_of([{"CPU": 8}]), goal="TERMINATED") == ["drain u.None"]


def test_new_trials_come_after_those_that_never_started() -> None:
    """A scheduler gets the results in the order in which it would have had them."""
    m = Driven(cpus=1)
    begin(m)
    m.restored("never")
    m.add("new")
    m.place()
    assert (m.trial("never").phase, m.trial("new").phase) == (Phase.STARTING, Phase.QUEUED)


def test_an_interrupted_restore() -> None:
    """What has come back stays as it is on record."""
    m = Driven()
    begin(m)
    m.restored("t", status="RUNNING", attempt=0, next_index=1, checkpoints=stored(0))
    m.restored("never")
    m.interrupt()
    m.drained("t", None)
    m.drained("never", None)
    assert m.machine.is_over
