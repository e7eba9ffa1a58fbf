"""Stoppers: after which results trials and runs end."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from milepost.testing import FakeClock
from milepost.tune.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    Stopper,
    TimeoutStopper,
    TrialPlateauStopper,
    timeout,
)

NAN = float("nan")


def fed(stopper: Stopper, values: list[float]) -> str:
    """What a stopper says to the results of one trial: ``x`` stop, ``.`` go on."""
    return "".join("x" if stopper("t", {"a": value}) else "." for value in values)


TRIAL_PLATEAUS: list[tuple[dict[str, Any], list[float], str]] = [
    ({}, [1, 1, 1, 1, 1], "...xx"),
    ({"num_results": 2}, [1, 1, 1, 1, 1], "...xx"),
    ({"grace_period": 2, "num_results": 2}, [1, 1, 1, 1, 1], ".xxxx"),
    ({"grace_period": 6, "num_results": 2}, [1] * 8, ".....xxx"),
    (
        {"metric_threshold": 1, "mode": "min", "num_results": 2},
        [3, 3, 3, 3, 3, 1, 1],
        "......x",
    ),
    (
        {"metric_threshold": 1, "mode": "max", "num_results": 2},
        [0, 0, 0, 0, 0, 1, 1],
        "......x",
    ),
    ({"std": 0, "num_results": 2}, [1] * 6, "......"),
    ({"std": 0.1, "num_results": 2}, [1, 2, 3, 3.2, 3.2, 4, 4.21], "....x.."),
    ({"num_results": 1, "grace_period": 0}, [1, NAN], "x."),
]


@pytest.mark.parametrize(("options", "values", "said"), TRIAL_PLATEAUS)
def test_trial_plateau(options: dict[str, Any], values: list[float], said: str) -> None:
    """A trial ends when the spread of its last results is below the bound."""
    stopper = TrialPlateauStopper("a", **options)
    assert fed(stopper, values) == said
    assert not stopper.stop_all()


EXPERIMENT_PLATEAUS: list[tuple[dict[str, Any], list[float], str]] = [
    ({"top": 2}, [1, 1, 1], ".xx"),
    ({"top": 2, "patience": 1}, [1, 1, 1, 1], ".xxx"),
    ({"top": 2, "patience": 2}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], "..xx..xx"),
    ({"top": 3, "std": 0.5, "mode": "max"}, [1, 2, 3, 2.9, 2.8, 5, 6, 7], "...xx..."),
]


@pytest.mark.parametrize(("options", "values", "said"), EXPERIMENT_PLATEAUS)
def test_experiment_plateau(options: dict[str, Any], values: list[float], said: str) -> None:
    """The run ends when the best results of all trials do not get better."""
    stopper = ExperimentPlateauStopper("a", **options)
    polled = ""
    for value in values:
        stops = stopper("t", {"a": value})
        assert stops is stopper.stop_all()
        polled += "x" if stops else "."
    assert polled == said


@pytest.mark.parametrize("kind", [TrialPlateauStopper, ExperimentPlateauStopper])
def test_plateau_of_a_metric_that_is_not_there(kind: Callable[..., Stopper]) -> None:
    """A nested metric is found by its flat name; a misspelt one is an error with the right one."""
    assert not kind("eval/loss")("t", {"eval": {"loss": 1.0}})
    with pytest.raises(KeyError, match=r"'eval/los'.*Did you mean 'eval/loss'"):
        kind("eval/los")("t", {"eval": {"loss": 1.0}})


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: TrialPlateauStopper("a", metric_threshold=1), "mode=None"),
    (
        lambda: TrialPlateauStopper("a", metric_threshold=1, mode="up"),
        "mode must be 'min' or 'max', got 'up'",
    ),
    (lambda: ExperimentPlateauStopper("a", top=1), "got 1"),
    (lambda: ExperimentPlateauStopper("a", top=2.0), "got 2.0"),  # type: ignore[arg-type]
    (lambda: ExperimentPlateauStopper("a", patience=-1), "got -1"),
    (lambda: ExperimentPlateauStopper("a", std=0), "got 0"),
    (lambda: ExperimentPlateauStopper("a", std=1), "got 1"),
    (lambda: ExperimentPlateauStopper("a", mode="up"), "got 'up'"),
    (lambda: TimeoutStopper("60"), "got '60'"),  # type: ignore[arg-type]
    (lambda: TimeoutStopper(NAN), "got nan"),
    (lambda: TimeoutStopper(-1), "got -1"),
    (lambda: TimeoutStopper(timedelta(seconds=-1)), "got datetime"),
    (lambda: MaximumIterationStopper(0), "max_iter must be at least 1, got 0"),
    (lambda: MaximumIterationStopper("3"), "max_iter must be a whole number, got '3'"),  # type: ignore[arg-type]
    (lambda: FunctionStopper(3), "got 3"),  # type: ignore[arg-type]
    (lambda: CombinedStopper(NoopStopper(), 3), r"stoppers\[1\] must be a Stopper, got 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_arguments_that_make_no_sense(make: Callable[[], Any], message: str) -> None:
    """Each is refused with its value."""
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_maximum_iteration() -> None:
    """Each trial has its own count."""
    stopper = MaximumIterationStopper(2)
    assert [stopper("a", {}), stopper("b", {}), stopper("a", {}), stopper("a", {})] == [
        False,
        False,
        True,
        True,
    ]
    assert not stopper.stop_all()


def test_function_and_noop() -> None:
    """A function decides on trials only; the last one never decides anything."""
    stopper = FunctionStopper(lambda trial_id, result: trial_id == "b")
    assert [stopper("a", {}), stopper("b", {}), stopper.stop_all()] == [False, True, False]
    assert [NoopStopper()("a", {}), NoopStopper().stop_all()] == [False, False]
    assert FunctionStopper.is_valid_function(print)
    assert not FunctionStopper.is_valid_function(3)
    assert not FunctionStopper.is_valid_function(NoopStopper())


def test_functions_that_look_like_stoppers() -> None:
    """Something with stop_all() must say that it is a Stopper."""

    class Almost:
        def __call__(self, *args: Any) -> bool:
            return False

        stop_all = __call__

    with pytest.raises(ValueError, match="does not derive"):
        FunctionStopper.is_valid_function(Almost())


def test_combined() -> None:
    """The first stopper that stops ends the question."""
    asked = []

    class Asked(NoopStopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            asked.append(trial_id)
            return False

    both = CombinedStopper(MaximumIterationStopper(1), Asked())
    assert both("a", {})
    assert asked == []
    assert CombinedStopper(Asked(), MaximumIterationStopper(1))("b", {})
    assert asked == ["b"]
    assert not both.stop_all()
    assert CombinedStopper(NoopStopper(), TimeoutStopper(0)).stop_all()
    assert not CombinedStopper()("a", {})


def test_a_stopper_must_say_both() -> None:
    """A subclass that leaves a method out cannot be made."""

    class Half(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

    with pytest.raises(TypeError, match="stop_all"):
        Half()  # type: ignore[abstract]


@pytest.mark.parametrize("length", [60, 60.0, timedelta(minutes=1)])
def test_timeout(length: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock starts at the first poll."""
    clock = FakeClock()
    monkeypatch.setattr(timeout, "time", clock)
    stopper = TimeoutStopper(length)
    clock.advance(500)
    assert not stopper.stop_all()
    clock.advance(59)
    assert not stopper.stop_all()
    assert not stopper("t", {})
    clock.advance(1)
    assert stopper.stop_all()


def test_timeout_after_a_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time between two lives of a run does not count."""
    clock = FakeClock()
    monkeypatch.setattr(timeout, "time", clock)
    stopper = TimeoutStopper(60)
    stopper.stop_all()
    clock.advance(50)
    stopper.stop_all()
    restored = pickle.loads(pickle.dumps(stopper))
    clock.advance(10_000)
    assert not restored.stop_all()
    clock.advance(10)
    assert restored.stop_all()


def test_stoppers_pickle() -> None:
    """Counts are part of a run's state."""
    for stopper in (
        MaximumIterationStopper(3),
        TrialPlateauStopper("a"),
        ExperimentPlateauStopper("a"),
        CombinedStopper(NoopStopper(), MaximumIterationStopper(3)),
    ):
        said = fed(stopper, [1.0, 1.0])
        copied = pickle.loads(pickle.dumps(stopper))
        assert said + fed(copied, [1.0, 1.0]) == said + fed(stopper, [1.0, 1.0])
    assert fed(pickle.loads(pickle.dumps(MaximumIterationStopper(2))), [1, 1]) == ".x"
