"""Errors of training: what they tell, what catches them, and how they travel."""

from __future__ import annotations

import copy
import pickle
import traceback

import cloudpickle
import pytest

import milepost
from milepost import errors, train
from milepost.train import PreemptionInfo
from milepost.train.error import (
    BroadcastCollectiveTimeoutError,
    CollectiveError,
    CollectiveTimeoutError,
    ControllerError,
    InsufficientClusterResourcesError,
    NCCLHangError,
    PreemptionError,
    RayTrainError,
    SessionMisuseError,
    TrainingFailedError,
    WorkerGroupError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

INFO = PreemptionInfo(5, {"node-b": [3, 2], "node-a": [0]})

# the error, what its text says, its attributes
MADE = [
    (TrainingFailedError("it failed"), "it failed", ()),
    (WorkerGroupError("rank 1: boo", {1: OSError(2, "gone")}), "rank 1: boo", ("worker_failures",)),
    (NCCLHangError("all_reduce hangs", {}), "all_reduce hangs", ("worker_failures",)),
    (ControllerError(KeyError("k")), "KeyError: 'k'", ("controller_failure",)),
    (
        PreemptionError(INFO, drain_timed_out=True),
        r"ranks: 0, 2, 3.*still running",
        ("preemption_info", "drain_timed_out"),
    ),
    (
        PreemptionError(PreemptionInfo(None, {})),
        r"ranks: none.*have ended",
        ("preemption_info", "drain_timed_out"),
    ),
    (WorkerHealthCheckTimeoutError("rank 3"), "rank 3", ()),
    (
        WorkerHealthCheckFailedError("rank 3 does not answer", EOFError("end")),
        "rank 3 does not answer\nEOFError: end",
        ("health_check_failure",),
    ),
    (WorkerGroupStartupTimeoutError(8), "group of 8 workers", ("num_workers",)),
    (WorkerGroupStartupFailedError("rank 0 died"), "rank 0 died", ()),
    (InsufficientClusterResourcesError("8 GPUs"), "8 GPUs", ()),
    (CollectiveError("barrier", (1, 3)), "barrier", ("missing_ranks",)),
    (CollectiveTimeoutError("barrier"), "barrier", ("missing_ranks",)),
    (SessionMisuseError("elsewhere"), "elsewhere", ()),
]


@pytest.mark.parametrize(("error", "says", "attributes"), MADE, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("module", [pickle, cloudpickle])
def test_errors_pickle_with_what_they_know(
    module: object, error: Exception, says: str, attributes: tuple[str, ...]
) -> None:
    """Text, attributes and notes are the same on the other side, for copies too."""
    with pytest.raises(type(error), match=says):
        raise error
    error.where = "driver"
    error.add_note("while testing")
    for other in (module.loads(module.dumps(error)), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.args) == (str(error), error.args)
        assert (other.where, other.__notes__) == ("driver", error.__notes__)
        for name in attributes:
            assert repr(getattr(other, name)) == repr(getattr(error, name))


class Wordy(Exception):
    """An exception that plain pickle cannot make again."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Own(Exception):
    """An exception that says itself how it is pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

    def __reduce__(self) -> tuple[object, ...]:
        return Own, (self.code, self.reason)


CARRIED = [
    Wordy(7, reason="no space"),
    Own(7, "no space"),
    FileNotFoundError(2, "gone", "/x"),
    errors.task_error(Own(7, "no space"), "Traceback: ..."),
    errors.ActorDiedError("killed by signal 9"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
]


@pytest.mark.parametrize("failure", CARRIED, ids=lambda error: type(error).__name__)
def test_failures_of_user_code_travel_inside(failure: Exception) -> None:
    """Exceptions whose constructors take other arguments than ``args`` arrive as they were."""
    for error in (
        WorkerGroupError("rank 0", {0: failure}),
        ControllerError(failure),
        WorkerHealthCheckFailedError("rank 0", failure),
    ):
        (name,) = {"worker_failures", "controller_failure", "health_check_failure"} & set(
            vars(error)
        )
        other = getattr(pickle.loads(pickle.dumps(error)), name)
        arrived = other[0] if isinstance(other, dict) else other
        assert type(arrived).__name__ == type(failure).__name__
        assert (str(arrived), arrived.args) == (str(failure), failure.args)
        assert getattr(arrived, "code", None) == getattr(failure, "code", None)


CAUGHT = [
    (WorkerGroupError("m", {}), (TrainingFailedError, RayTrainError, RuntimeError)),
    (NCCLHangError("m", {}), (WorkerGroupError, TrainingFailedError)),
    (ControllerError(ValueError()), (TrainingFailedError,)),
    (PreemptionError(INFO), (TrainingFailedError,)),
    (BroadcastCollectiveTimeoutError("m"), (CollectiveTimeoutError, CollectiveError, TimeoutError)),
    (WorkerGroupStartupTimeoutError(1), (RayTrainError, TimeoutError)),
    (WorkerHealthCheckTimeoutError("m"), (RayTrainError, TimeoutError)),
    (WorkerHealthCheckFailedError("m", ValueError()), (RayTrainError,)),
    (WorkerGroupStartupFailedError("m"), (RayTrainError,)),
    (InsufficientClusterResourcesError("m"), (RayTrainError,)),
    (SessionMisuseError("m"), (errors.MilepostError, RuntimeError)),
]


@pytest.mark.parametrize(("error", "kinds"), CAUGHT, ids=lambda value: type(value).__name__)
def test_what_catches_an_error(error: Exception, kinds: tuple[type, ...]) -> None:
    """Each is what scripts expect of it, and the built-in that fits."""
    for kind in (*kinds, errors.MilepostError):
        assert isinstance(error, kind)


@pytest.mark.parametrize("kind", [WorkerGroupStartupFailedError, CollectiveTimeoutError])
def test_what_fit_does_not_raise_by_itself(kind: type[Exception]) -> None:
    """Errors that a run may get over are no failure of training until they are inside of one."""
    assert not isinstance(kind("m"), TrainingFailedError)
    assert isinstance(ControllerError(kind("m")), TrainingFailedError)


def test_a_controller_error_shows_where_it_happened() -> None:
    """The traceback of the failure is that of the error."""

    def breaks() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as caught:
        breaks()
    error = ControllerError(caught.value)
    assert error.controller_failure is caught.value
    assert "breaks" in [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def test_failures_are_copied() -> None:
    """A dict that changes later does not change the error."""
    failures = {0: ValueError("x")}
    error = WorkerGroupError("m", failures)
    failures.clear()
    assert list(error.worker_failures) == [0]


def test_public_errors_are_names_of_the_package() -> None:
    """What scripts catch is reached through ``milepost.train``; it is the same class."""
    names = "TrainingFailedError WorkerGroupError ControllerError PreemptionError NCCLHangError"
    for name in names.split():
        assert getattr(train, name) is getattr(errors, name) is getattr(train.error, name)
    assert milepost.train is train


@pytest.mark.parametrize(
    "name",
    [
        "report",
        "get_checkpoint",
        "get_context",
        "get_preemption_info",
        "get_all_reported_checkpoints",
    ],
)
def test_calls_outside_of_workers(name: str) -> None:
    """Functions of training workers raise an error of their own elsewhere."""
    with pytest.raises(SessionMisuseError, match=f"milepost.train.{name} was called outside"):
        getattr(train, name)(*([{}] if name == "report" else []))
