"""How many trials run, when they stop, and who is told what."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import milepost
from milepost import tune
from milepost.tune.stopper import MaximumIterationStopper, Stopper


@pytest.fixture(autouse=True)
def _storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))


def fit(trainable: Any, space: Any = None, run: Any = None, **search: Any) -> tune.ResultGrid:
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(**search),
        run_config=tune.RunConfig(verbose=0, **(run or {})),
    ).fit()


def count_up(config: dict[str, Any]) -> None:
    for number in range(config.get("steps", 5)):
        tune.report({"number": number, "nested": {"square": number**2}})


def forever(config: dict[str, Any]) -> None:
    number = 0
    while True:
        number += 1
        tune.report({"number": number})


def test_grids_times_samples() -> None:
    """Every combination of the grids runs once per sample, and random values differ."""
    space = {
        "a": tune.grid_search([1, 2]),
        "b": {"c": tune.grid_search(["x", "y", "z"])},
        "r": tune.uniform(0, 1),
    }
    grid = fit(lambda config: {"r": config["r"]}, space, num_samples=2)
    seen = [(r.config["a"], r.config["b"]["c"]) for r in grid]  # type: ignore[index]
    assert len(grid) == 12
    assert sorted(seen) == sorted((a, c) for a in (1, 2) for c in "xyz" for _ in range(2))
    assert len({r.metrics["r"] for r in grid}) == 12  # type: ignore[index]
    assert len({r.path for r in grid}) == 12


@pytest.mark.parametrize(
    ("stop", "iterations"),
    [
        ({"training_iteration": 3}, 3),
        ({"nested/square": 9}, 4),
        (lambda trial_id, result: result["number"] >= 1, 2),
        (MaximumIterationStopper(2), 2),
        ([MaximumIterationStopper(4), MaximumIterationStopper(3)], 3),
        ({"number": 10**6}, 5),
    ],
)
def test_forms_of_stop(stop: Any, iterations: int) -> None:
    """Dicts (also nested), functions, stoppers and lists of them end a trial at the right row."""
    (result,) = fit(count_up, run={"stop": stop})
    assert result.metrics is not None
    assert result.metrics["training_iteration"] == iterations
    assert result.metrics["done"] is True
    assert len(result.metrics_dataframe) == iterations


class StopAllAfter(Stopper):
    """Ends the run once a trial got that far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reached = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.reached = self.reached or result["number"] >= self.number
        return False

    def stop_all(self) -> bool:
        return self.reached


def test_a_stopper_ends_the_whole_run() -> None:
    """stop_all() ends every trial, and no further one starts."""
    grid = fit(forever, {"x": tune.grid_search(list(range(50)))}, {"stop": StopAllAfter(5)})
    reported = [r.metrics["number"] for r in grid if r.metrics and "number" in r.metrics]
    assert (grid.num_errors, grid.num_terminated) == (0, len(grid))
    assert max(reported) >= 5
    assert len(reported) < 50


@pytest.mark.parametrize("budget", [0.5, timedelta(seconds=0.5)])
def test_a_time_budget_ends_the_run(budget: Any) -> None:
    """A run without end comes back when its time is used up, with what there is."""
    grid = fit(forever, num_samples=-1, time_budget_s=budget, max_concurrent_trials=2)
    assert len(grid) >= 1
    assert grid.num_errors == 0
    assert grid.num_terminated == len(grid)
    assert not any((r.metrics or {}).get("done") for r in grid)


def test_no_more_trials_run_at_once_than_asked(tmp_path: Path) -> None:
    """max_concurrent_trials limits how many workers are alive together."""

    def train(config: dict[str, Any]) -> None:
        here = tmp_path / f"running-{os.getpid()}"
        here.touch()
        tune.report({"together": len(list(tmp_path.glob("running-*")))})
        here.unlink()

    space = {"x": tune.grid_search(list(range(6)))}
    grid = fit(tune.with_resources(train, {"cpu": 0.1}), space, max_concurrent_trials=2)
    assert grid.num_errors == 0
    assert max(r.metrics["together"] for r in grid) <= 2  # type: ignore[index]


class Reusable(tune.Trainable):
    """Tells which process it runs in."""

    def setup(self, config: dict[str, Any]) -> None:
        self.x = config["x"]

    def step(self) -> dict[str, Any]:
        return {"x": self.x, "process": os.getpid(), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.x = new_config["x"]
        return True


def test_processes_are_fresh_unless_reuse_is_asked_for() -> None:
    """Each trial has a process of its own; with reuse_actors one serves several."""
    space = {"x": tune.grid_search([1, 2, 3])}
    fresh = fit(Reusable, space, max_concurrent_trials=1)
    assert len({r.metrics["process"] for r in fresh}) == 3  # type: ignore[index]
    reused = fit(Reusable, space, max_concurrent_trials=1, reuse_actors=True)
    assert [r.metrics["x"] for r in reused] == [1, 2, 3]  # type: ignore[index]
    assert len({r.metrics["process"] for r in reused}) == 1  # type: ignore[index]


class Told(tune.Callback):
    """Notes the hooks in the order in which they are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def setup(self, **info: Any) -> None:
        self.calls.append("setup")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.calls.append("end")

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_trial") or name == "on_checkpoint":
            calls = object.__getattribute__(self, "calls")
            return lambda **info: calls.append(name.removeprefix("on_"))
        return object.__getattribute__(self, name)


class Flaky(tune.Trainable):
    """Fails once, after its first checkpoint."""

    def step(self) -> dict[str, Any]:
        if self.iteration == 1 and not os.path.exists("failed"):
            open("failed", "w").close()
            raise RuntimeError("once")
        return {}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """There is nothing to load."""


def test_the_order_of_callbacks() -> None:
    """Hooks come in the order that Ray's users know, also around a failure."""
    told = Told()
    grid = fit(
        Flaky,
        run={
            "callbacks": [told],
            "stop": {"training_iteration": 2},
            "failure_config": tune.FailureConfig(max_failures=1),
            "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1),
        },
    )
    assert grid.num_errors == 0
    saved = ["trial_result", "checkpoint", "trial_save"]
    assert told.calls == [
        "setup",
        "trial_start",
        *saved,
        "trial_recover",
        "trial_start",
        *saved,
        "trial_complete",
        "end",
    ]


def test_a_failing_callback_ends_the_run_and_names_itself() -> None:
    """An exception in a hook is a TuneError with its traceback; nothing hangs."""

    class Bad(tune.Callback):
        def on_trial_result(self, **info: Any) -> None:
            raise KeyError("my own mistake")

    with pytest.raises(tune.TuneError, match="my own mistake"):
        fit(forever, run={"callbacks": [Bad()]})


def test_errors_of_trials_are_in_the_grid() -> None:
    """A failing trial does not raise; its error is also an instance of the user's type."""

    def train(config: dict[str, Any]) -> None:
        tune.report({"x": config["x"]})
        if config["x"] == 2:
            raise ZeroDivisionError("by design")

    grid = fit(train, {"x": tune.grid_search([1, 2, 3])})
    assert (grid.num_errors, grid.num_terminated) == (1, 2)
    (error,) = grid.errors
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error, Exception)
    assert "by design" in str(error)
    assert grid[1].metrics is not None
    assert grid[1].metrics["x"] == 2
    assert "by design" in Path(grid[1].path, "error.txt").read_text()
    reread = tune.Result.from_path(grid[1].path)
    assert isinstance(reread.error, ZeroDivisionError)


def test_fail_fast() -> None:
    """True ends the run and returns; "raise" raises the user's own error."""

    def train(config: dict[str, Any]) -> None:
        if config["x"] == 0:
            raise ZeroDivisionError("by design")
        forever(config)

    space = {"x": tune.grid_search([0, 1, 2])}
    stopped = {"failure_config": tune.FailureConfig(fail_fast=True)}
    grid = fit(train, space, stopped)
    assert grid.num_errors == 1
    assert grid.num_terminated == len(grid) - 1
    with pytest.raises(ZeroDivisionError, match="by design"):
        fit(train, space, {"failure_config": tune.FailureConfig(fail_fast="raise")})


def test_a_second_fit() -> None:
    """A Tuner with an automatic name fits again as a new experiment; a named one refuses."""
    run = tune.RunConfig(verbose=0)
    tuner = tune.Tuner(count_up, run_config=run)
    first, second = tuner.fit(), tuner.fit()
    assert first.experiment_path != second.experiment_path
    assert tuner.get_results() is second
    named = tune.Tuner(count_up, run_config=tune.RunConfig(name="mine", verbose=0))
    named.fit()
    with pytest.raises(tune.TuneError, match="mine"):
        named.fit()


def test_runs_side_by_side_in_one_process() -> None:
    """Two threads that fit at the same time do not disturb each other, names included."""
    import tempfile

    def train(config: dict[str, Any]) -> None:
        for number in range(3):
            with tempfile.TemporaryDirectory() as directory:
                Path(directory, "data").write_bytes(b"x" * 1_100_000)
                checkpoint = tune.Checkpoint.from_directory(directory)
                tune.report({"value": number * config["factor"]}, checkpoint=checkpoint)

    grids: dict[int, tune.ResultGrid] = {}

    def go(factor: int) -> None:
        grids[factor] = fit(train, {"factor": factor})

    threads = [threading.Thread(target=go, args=(factor,)) for factor in (1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f: grid[0].metrics["value"] for f, grid in grids.items()} == {1: 2, 10: 20}  # type: ignore[index]
    assert [len(grid[0].best_checkpoints or []) for grid in grids.values()] == [3, 3]
    assert grids[1].experiment_path != grids[10].experiment_path


def test_the_whole_run_is_reread_from_disk() -> None:
    """An experiment opened from its directory tells the same as the grid in hand."""
    grid = fit(count_up, {"steps": tune.grid_search([2, 4])}, metric="number", mode="max")
    again = tune.ResultGrid(
        tune.ExperimentAnalysis(grid.experiment_path, default_metric="number", default_mode="max")
    )
    assert len(again) == 2
    for ours, theirs in zip(grid, again, strict=True):
        assert theirs.metrics == ours.metrics
        assert theirs.path == ours.path
        assert theirs.config == ours.config
        assert theirs.metrics_dataframe.equals(ours.metrics_dataframe)
    assert again.get_best_result().config == grid.get_best_result().config == {"steps": 4}
    setup = json.dumps(tune.ExperimentAnalysis(grid.experiment_path).get_all_configs())
    assert "steps" in setup


def test_strict_metrics() -> None:
    """A result without the run's metric ends the run with an error that names both."""
    with pytest.raises(tune.TuneError, match="los"):
        fit(count_up, metric="los", mode="min")


def test_tune_run() -> None:
    """The older entry point returns an analysis, and raises when a trial failed."""
    analysis = tune.run(
        count_up,
        config={"steps": tune.grid_search([1, 3])},
        metric="number",
        mode="max",
        verbose=0,
    )
    assert analysis.best_config == {"steps": 3}
    assert [t.status for t in analysis.trials] == ["TERMINATED"] * 2

    def fails(config: dict[str, Any]) -> None:
        raise ValueError("by design")

    with pytest.raises(tune.TuneError, match="Trials did not complete") as caught:
        tune.run(fails, verbose=0)
    assert [str(t) for t in caught.value.args[1]] == [
        t.custom_trial_name for t in caught.value.args[1]
    ]
    analysis = tune.run(fails, verbose=0, raise_on_failed_trial=False)
    assert isinstance(analysis.trials[0].get_error(), ValueError)


def test_trials_that_have_ended_tell_everything() -> None:
    """What callbacks may ask of a trial is answered after its end too."""
    train = tune.with_resources(count_up, {"cpu": 0.5, "wheels": 0})
    analysis = tune.run(train, config={"steps": tune.grid_search([2])}, verbose=0)
    (trial,) = analysis.trials
    assert trial.is_finished()
    assert trial.trainable_name == "count_up"
    assert trial.evaluated_params == {"steps": 2}
    assert trial.experiment_tag == "0_steps=2"
    assert trial.last_result["number"] == 1
    assert trial.metric_analysis["nested/square"]["max"] == 1
    assert trial.placement_group_factory.required_resources == {"CPU": 0.5}
    assert trial.start_time is not None
    assert trial.get_error() is None
    (again,) = tune.ExperimentAnalysis(analysis.experiment_path).trials
    for name in ("trial_id", "trainable_name", "evaluated_params", "experiment_tag", "path"):
        assert getattr(again, name) == getattr(trial, name)
    assert again.placement_group_factory == trial.placement_group_factory
    assert again.metric_analysis == trial.metric_analysis


def test_run_experiments() -> None:
    """Several experiments run one after the other and give all of their trials."""
    trials = tune.run_experiments(
        {
            "first": {"run": count_up, "config": {"steps": 1}},
            "second": {"run": count_up, "config": {"steps": 2}, "num_samples": 2},
        },
        verbose=0,
    )
    assert [t.config["steps"] for t in trials] == [1, 2, 2]
    assert {os.path.basename(t.local_experiment_path) for t in trials} == {"first", "second"}


INTERRUPTED = """
import os, time
from milepost import tune

def train(config):
    for number in range(100_000):
        tune.report({"number": number})
        open(os.path.join(os.environ["HOME"], "reporting"), "w").close()

grid = tune.Tuner(train, param_space={"x": tune.grid_search([1, 2])}).fit()
print("GRID", len(grid), grid.num_errors, any("number" in r.metrics for r in grid))
"""


def test_control_c_once_gives_what_there_is(place: Any) -> None:
    """The first Ctrl-C ends the run in order: fit() returns a grid, and nothing stays behind."""
    process = place.start(str(place.write(INTERRUPTED)))
    deadline = time.monotonic() + 30
    while not (place.home / "reporting").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, f"{out}\n{err}"
    assert "GRID 2 0 True" in out


STUBBORN = """
import os, time
from milepost import tune

def train(config):
    tune.report({"number": 0})
    open(os.path.join(os.environ["HOME"], "reporting"), "w").close()
    while True:
        time.sleep(3600)

tune.Tuner(train).fit()
"""


def test_control_c_twice_ends_at_once(place: Any) -> None:
    """A trial that never reports again cannot hold up a second Ctrl-C; nothing stays behind."""
    process = place.start(str(place.write(STUBBORN)))
    deadline = time.monotonic() + 30
    while not (place.home / "reporting").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGINT)
    while "SIGINT" not in process.stderr.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    (experiment,) = place.experiments()
    (result,) = tune.ResultGrid(tune.ExperimentAnalysis(experiment))
    assert result.metrics is not None
    assert result.metrics["number"] == 0


def test_the_handler_of_control_c_is_put_back() -> None:
    """After fit() signals do what they did before."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)}
    fit(count_up)
    assert {s: signal.getsignal(s) for s in before} == before


def test_nothing_of_ours_remains(leaks: Callable[[], list[str]]) -> None:
    """After fit() no process, thread, descriptor or temporary file is left."""
    import tempfile

    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            with tempfile.TemporaryDirectory() as directory:
                Path(directory, "data").write_bytes(b"x" * 2_000_000)
                tune.report({"x": 1}, checkpoint=tune.Checkpoint.from_directory(directory))

    fit(train)
    fit(train, {"x": tune.grid_search([1, 2])})
    milepost.shutdown()  # a fork server that was slow to start is kept for the next fit
    assert leaks() == []
