"""The machine by tables: pausing, saving, keeping."""

from __future__ import annotations

from typing import Any

import pytest
from machines import Driven

from milepost.control.memory import asked
from milepost.control.run_control import RunControl
from milepost.control.state import Phase

# --- pausing -----------------------------------------------------------------------------------


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


# --- saving by classes -------------------------------------------------------------------------


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


@pytest.mark.parametrize("captured", [True, False])
def test_a_class_that_dies_in_its_last_save(*, captured: bool) -> None:
    """If the checkpoint was captured the trial has ended; else it goes on from the one before."""
    m = Driven(kind="class", save_at_end=True, max_failures=1)
    m.running("t")
    m.reported(0, "stop", iteration=1)
    m.gone(0)
    if captured:
        m.committed("t", 0)
    told = m.drained("t")
    assert ("record t TERMINATED" in told) == captured
    assert ("ended t" in told) == captured
    if not captured:
        assert m.trial("t").phase is Phase.QUEUED


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


# --- keeping and deleting ----------------------------------------------------------------------


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


def test_a_trial_that_is_being_paused_waits_for_room_already() -> None:
    """Its slot is another's, while its last checkpoint is still on its way to the disk."""
    m = Driven(cpus=1)
    nobody: Any = None
    control = RunControl(nobody, m.machine, nobody, m)
    m.running("t")
    m.add("u")
    m.reported(0, "pause", checkpoint=0)
    m.finished(0, "pause")
    assert m.trial("t").phase is Phase.SETTLING
    trial: Any = m.trial("t")
    assert not control.waits_for_room(trial), "the slot is free"
    m.place()
    assert m.trial("u").phase is Phase.STARTING
    assert control.waits_for_room(trial)


def test_what_is_asked_of_a_trial_that_settles_is_remembered() -> None:
    """A driver may die before it is done; no record tells of it."""
    m = Driven()
    m.add("t")
    m.place()
    m.started(0)
    m.reported(0, "pause", checkpoint=0)
    m.finished(0, "pause")
    assert m.trial("t").phase is Phase.SETTLING
    assert asked(m.machine.trials.values()) == {}, "that it is to pause is in its last result"
    m.stop("t")
    assert asked(m.machine.trials.values()) == {"t": "stop"}
    m.committed("t", 0)
    assert "t" not in m.machine.trials


def test_a_pause_of_a_trial_that_is_tried_again_is_remembered() -> None:
    """Until it is paused, which is on record then."""
    m = Driven(max_failures=1)
    m.add("t")
    m.place()
    m.started(0)
    m.failed(0)
    assert m.trial("t").phase is Phase.SETTLING
    m.pause("t")
    assert asked(m.machine.trials.values()) == {"t": "pause"}
    m.drained("t", 0)
    assert m.trial("t").phase is Phase.PAUSED
    assert asked(m.machine.trials.values()) == {}
