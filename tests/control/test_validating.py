"""Which checkpoint is validated when, what is kept for that, and what comes of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from machines import DIED, RAW, Driven

from milepost.checkpoint.validation import Outcome, Task, merged
from milepost.control import events
from milepost.control.checkpoints import Checkpoint
from milepost.control.resources import request_of
from milepost.control.state import Phase
from milepost.storage import codec

TASK = Task()
NOTHING = request_of([{}])


def driven(**options: Any) -> Driven:
    """A machine whose trial t has reported three checkpoints, which are captured."""
    m = Driven(**{"validation": NOTHING, **options})
    m.running("t")
    for index in range(3):
        m.reported(0, iteration=index + 1, checkpoint=index)
    return m


def restored(m: Driven, *pending: int) -> list[str]:
    """Have a trial come back with two checkpoints, some of whose validations are pending."""
    m(events.RunRestored(at=0, ended={}, next_order=1))
    kept = tuple(Checkpoint(index=i, path=f"/exp/t/{i}", iteration=1, row=RAW) for i in range(2))
    awaited = tuple((index, TASK) for index in pending)
    return m.restored("t", attempt=0, next_index=2, checkpoints=kept, validations=awaited)


def test_one_at_a_time_in_order() -> None:
    """The next one starts when the process of the one before has exited."""
    m = driven()
    told = m.committed("t", 0, validation=TASK)
    assert told[-1] == "validate t/0 on validator-0 cpus=1"
    assert not [line for line in m.committed("t", 1, validation=TASK) if "validate" in line]
    assert not [line for line in m.committed("t", 2) if "validate" in line]
    assert m.validated(0) == ["publish t/0 VALIDATED", "record validated t/0", "notice info"]
    assert m.validator_gone(0) == ["validate t/1 on validator-1 cpus=1"]
    assert m.validated(1, "VALIDATION_TIMEOUT")[-1] == "notice warning"
    assert m.validator_gone(1) == []


@pytest.mark.parametrize("status", ["VALIDATED", "VALIDATION_FAILED", "VALIDATION_TIMEOUT"])
def test_what_is_pending_stays(status: str) -> None:
    """Whatever it is worth, until its validation is through; the latest stays anyway."""
    m = driven(keep=1)
    m.committed("t", 0, validation=TASK)
    m.committed("t", 1)
    assert not [line for line in m.committed("t", 2) if line == "delete t/0"]
    assert list(m.trial("t").checkpoints) == [0, 2]
    assert "delete t/0" in m.validated(0, status)
    assert list(m.trial("t").checkpoints) == [2]


def test_validation_ranks_anew() -> None:
    """A score that only the validation knows decides what is kept, and what was best goes."""
    m = driven(keep=1, rank_by="score")
    for index in range(3):
        m.committed("t", index, validation=TASK)
    assert "delete t/0" not in m.validated(0, score=0.5, metrics=msgspec.Raw(b'{"score":0.5}'))
    m.validator_gone(0)
    assert "delete t/0" in m.validated(1, score=0.9)
    assert list(m.trial("t").checkpoints) == [1, 2]
    m.validator_gone(1)
    assert m.validated(2, "VALIDATION_FAILED", score=None)
    assert list(m.trial("t").checkpoints) == [1, 2]


def test_a_trial_ends_after_its_validations() -> None:
    """Its slot is free at once; its hooks come when the last outcome is there."""
    m = driven(cpus=1)
    for index in range(3):
        m.committed("t", index, validation=None if index else TASK)
    m.add("u")
    assert m.finished(0) == ["end worker-0"]
    assert m.trial("t").phase is Phase.SETTLING
    assert m.place()[0] == "start worker-1 cpus=1"
    assert m.validated(0)[-3:] == ["record t TERMINATED", "completed t", "ended t"]
    m.started(1)
    m.finished(1)
    m.search_ended()
    assert m.machine.is_over
    assert m.validator_gone(0) == []


def test_a_failed_trial_ends_after_them_too() -> None:
    """The error is told of when all is validated."""
    m = driven()
    for index in range(3):
        m.committed("t", index, validation=None if index else TASK)
    m.failed(0)
    m.drained("t", highest=2)
    assert m.trial("t").phase is Phase.SETTLING
    assert m.validated(0)[-3:] == ["record t ERROR", "errored t", "ended t"]


def test_another_attempt_goes_on_meanwhile() -> None:
    """A restart of the workers waits for no validation, and disturbs none."""
    m = driven(max_failures=1)
    for index in range(3):
        m.committed("t", index, validation=None if index else TASK)
    m.gone(0, DIED)
    m.drained("t", highest=2)
    assert m.verified("t", 2)
    assert m.place()
    assert m.validated(0)[:2] == ["publish t/0 VALIDATED", "record validated t/0"]


def test_an_interruption_cancels() -> None:
    """What is under way and what waits stays pending, and the trial unfinished on record."""
    m = driven()
    for index in range(3):
        m.committed("t", index, validation=TASK)
    m.finished(0)
    assert m.interrupt() == ["cancel validator-0", "ended t"]
    assert m.machine.is_over
    assert m.validated(0) == []
    assert m.validator_gone(0) == []
    assert not [each for each in m.journal if type(each).__name__ == "Validated"]


def test_an_end_for_other_reasons_does_not() -> None:
    """A time budget ends training, not what was begun because of it."""
    m = driven()
    for index in range(3):
        m.committed("t", index, validation=None if index else TASK)
    m.reported(0, iteration=4)
    m.stop_all()
    m.reported(0, iteration=5)
    m.finished(0, "stop")
    assert not m.machine.is_over
    m.validated(0)
    assert m.machine.is_over


def test_a_trial_that_waits_is_stopped() -> None:
    """It ends after its validations as well."""
    m = driven(max_failures=1)
    for index in range(3):
        m.committed("t", index, validation=None if index else TASK)
    m.gone(0, DIED)
    m.drained("t", highest=2)
    m.verified("t", 2)
    assert m.trial("t").phase is Phase.QUEUED
    assert m.stop("t") == []
    assert "ended t" in m.validated(0)


def test_what_is_lost_is_not_validated() -> None:
    """The process is ended, and the next checkpoint comes."""
    m = driven(max_failures=1)
    for index in range(3):
        m.committed("t", index, validation=None if index == 1 else TASK)
    m.gone(0, DIED)
    m.drained("t", highest=2)
    m.verified("t", None)
    assert not m.machine.state.validations
    m.validator_gone(0)
    assert m.machine.state.validator is None


def test_pending_ones_come_back() -> None:
    """A run that goes on does first what the one before has left."""
    told = restored(Driven(validation=NOTHING), 0)
    assert told[-1] == "validate t/0 on validator-0 cpus=1"


def test_nobody_validates() -> None:
    """Where checkpoints wait and there is no function, the run does not go on in silence."""
    assert "abort" in restored(Driven(), 0)
    m = Driven()
    m.running("t")
    m.reported(0, checkpoint=0)
    assert "abort" in m.committed("t", 0, validation=TASK)


def test_resources() -> None:
    """Trials leave free what it needs, so that it never waits for one that waits for it."""
    m = driven(cpus=3, validation=request_of([{"CPU": 1}]))
    m.add("u")
    m.add("v")
    assert len([line for line in m.place() if line.startswith("start")]) == 1
    assert m.committed("t", 0, validation=TASK)[-1] == "validate t/0 on validator-0 cpus=1"
    assert m.place() == []
    m.validated(0)
    m.validator_gone(0)
    assert m.place() == []
    assert not m.machine.has_room
    m.started(1)
    m.finished(1)
    assert m.place()[0] == "start worker-2 cpus=1"


def test_gpus() -> None:
    """They are the process's own, and free when it has exited."""
    m = driven(gpus=("a",), validation=request_of([{"GPU": 1, "CPU": 2}]))
    assert m.committed("t", 0, validation=TASK)[-1] == "validate t/0 on validator-0 cpus=2 gpus=a"
    m.validated(0)
    assert m.machine.state.pool.used["GPU"] == 1
    m.validator_gone(0)
    assert m.machine.state.pool.used["GPU"] == 0


@pytest.mark.parametrize("validation", [{"CPU": 1}, {"GPU": 1}])
def test_what_can_never_be_met(validation: dict[str, float]) -> None:
    """A validation that does not fit beside its trial is an error at once."""
    assert Driven(cpus=1, validation=request_of([validation])).add("t") == ["abort"]
    assert Driven(cpus=1, validation=NOTHING).add("t") != ["abort"]


def test_room_beside_as_many_workers_as_fit() -> None:
    """A trial takes no workers more than leave room for the validation, and grows no further."""
    m = Driven(cpus=4, validation=request_of([{"CPU": 1}]))
    m.add("t", {"CPU": 1}, size=1, most=6)
    m.search_ended()
    assert len([line for line in m.place() if line.startswith("start")]) == 3
    for worker in range(3):
        m.started(worker)
    assert m(events.LookForRoom(at=0)) == []
    m.reported(0, checkpoint=0)
    assert m.committed("t", 0, validation=TASK)[-1] == "validate t/0 on validator-0 cpus=1"


@pytest.mark.parametrize(
    ("row", "metrics"),
    [
        ({"a": 1, "b": (1, 2)}, {"b": {1, 2}, "c": float("nan")}),
        ({1: "x", "b": 2}, {"b": 3}),
        ({"b": 2}, {"$": 1, "b": 3}),
        ({"b": 2}, {}),
    ],
)
def test_rows_and_metrics(row: dict[Any, Any], metrics: dict[Any, Any]) -> None:
    """What the validation says comes over what was reported, whatever the values and names are."""
    outcome = Outcome(status="VALIDATED", metrics=msgspec.Raw(codec.encode(metrics)))
    found = codec.decode(merged(msgspec.Raw(codec.encode(row)), outcome))
    assert repr(found) == repr({**row, **metrics})
