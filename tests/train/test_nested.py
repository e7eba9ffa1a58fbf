"""Trainers in trials: their workers hold the trial's bundles, or what the tuning run has left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import milepost
from milepost import train, tune

pytestmark = pytest.mark.timeout(100)

Fit = Callable[..., tune.ResultGrid]


def size(config: dict[str, Any]) -> int:
    train.report({"size": train.get_context().get_world_size()})
    return train.get_context().get_world_size()


def inner(root: str, workers: Any, loop: Any = size, **config: Any) -> train.DataParallelTrainer:
    return train.DataParallelTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=train.RunConfig(
            storage_path=root, name=tune.get_context().get_trial_id(), verbose=0
        ),
    )


@pytest.fixture
def fit(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Run trials of a function on a machine of so many CPUs."""

    def run(function: Any, cpus: float, number: int = 1, **options: Any) -> tune.ResultGrid:
        milepost.shutdown()
        milepost.init(num_cpus=cpus)
        return tune.Tuner(
            function,
            param_space={"root": str(tmp_path), "number": tune.grid_search(list(range(number)))},
            run_config=tune.RunConfig(
                name="run", storage_path=str(tmp_path / "outer"), verbose=0, **options
            ),
        ).fit()

    yield run
    milepost.shutdown()


def test_from_the_bundles_of_the_trial(fit: Fit) -> None:
    """The trial holds everything, and its trainer uses that; more is not to be had."""

    def trial(config: dict[str, Any]) -> None:
        result = inner(config["root"], (1, 8)).fit()
        tune.report({"size": result.return_value})

    bundles = tune.PlacementGroupFactory([{"CPU": 1}] * 4)
    (result,) = fit(tune.with_resources(trial, bundles), 4)
    assert result.metrics["size"] == 3


def test_from_what_is_free(fit: Fit) -> None:
    """As many as there are; the next trainer of the trial gets them when they are given back."""

    def trial(config: dict[str, Any]) -> None:
        sizes = [inner(config["root"], workers).fit().return_value for workers in ((1, 8), 2)]
        tune.report({"sizes": sizes})

    (result,) = fit(trial, 4)
    assert result.metrics["sizes"] == [3, 2]


def test_what_never_comes_is_an_error_at_once(fit: Fit) -> None:
    """The trial holds what its own trainer would need; the error says what to do."""

    def trial(config: dict[str, Any]) -> None:
        inner(config["root"], 2).fit()

    (result,) = fit(trial, 2)
    text = str(result.error)
    assert "cannot have 2 workers: it needs CPU 2, of CPU 2 in all" in text
    assert "the trial itself, which waits" in text
    assert "tune.PlacementGroupFactory([{'CPU': 1}] + [{'CPU': 1.0}] * 2)" in text


@pytest.mark.parametrize(("cpus", "refused"), [(4, 0), (3, 1)])
def test_trials_take_turns(fit: Fit, cpus: int, refused: int) -> None:
    """Who waits for another's trainer gets its turn; of two that wait for each other one fails."""

    def trial(config: dict[str, Any]) -> None:
        Path(config["root"], str(config["number"])).touch()
        while not all(Path(config["root"], str(each)).exists() for each in range(2)):
            threading.Event().wait(0.01)
        tune.report({"size": inner(config["root"], 2).fit().return_value})

    results = fit(trial, cpus, 2)
    assert len(results.errors) == refused
    assert [each.metrics["size"] for each in results if each.error is None] == [2] * (2 - refused)
    assert all("trials that wait" in str(error) for error in results.errors)


def test_a_trial_that_dies_gives_back(fit: Fit) -> None:
    """Its workers have died with it; the next attempt has them again."""

    def dies(config: dict[str, Any]) -> None:
        if not Path(config["mark"]).exists():
            Path(config["mark"]).touch()
            os.kill(config["pid"], signal.SIGKILL)
            threading.Event().wait()

    def trial(config: dict[str, Any]) -> None:
        mark = str(Path(config["root"], "mark"))
        inner(config["root"], 1, dies, mark=mark, pid=os.getpid()).fit()
        tune.report({"done_": 1})

    (result,) = fit(trial, 2, failure_config=tune.FailureConfig(max_failures=1))
    assert result.metrics["done_"] == 1
