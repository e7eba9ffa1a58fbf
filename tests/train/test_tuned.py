"""Training runs inside of tuning: trainers that are tuned, and trials that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loops import trainer

from milepost import train, tune
from milepost.tune.integration.ray_train import TuneReportCallback


def place(root: Path, **options: Any) -> tune.RunConfig:
    return tune.RunConfig(name="tuned", storage_path=str(root), verbose=0, **options)


def test_a_trainer_is_tuned(tmp_path: Path) -> None:
    """Each trial has all of the workers; its config is put over that of the trainer."""
    tuner = tune.Tuner(
        trainer(tmp_path, train_loop_config={"steps": 9, "other": {"a": 1}}),
        param_space={"train_loop_config": {"steps": tune.grid_search([1, 2])}},
        run_config=place(tmp_path),
    )
    results = tuner.fit()
    assert [result.metrics["step"] for result in results] == [1, 2]
    assert [result.config["train_loop_config"] for result in results] == [
        {"steps": 1},
        {"steps": 2},
    ]
    assert all(result.checkpoint is not None for result in results)
    assert [Path(result.path).name.split("_")[0] for result in results] == [
        "DataParallelTrainer"
    ] * 2


def test_how_many_workers_is_tuned(tmp_path: Path) -> None:
    """The trials' resources follow."""

    def loop() -> None:
        train.report({"workers": train.get_context().get_world_size()})

    tuner = tune.Tuner(
        trainer(tmp_path, loop, workers=1),
        param_space={"scaling_config": {"num_workers": tune.grid_search([1, 3])}},
        run_config=place(tmp_path),
    )
    assert [result.metrics["workers"] for result in tuner.fit()] == [1, 3]


def test_trials_of_a_trainer_start_again(tmp_path: Path) -> None:
    """A worker that dies takes its trial back to the latest checkpoint; a restored run goes on."""
    config = {"dies": (1, 2), "how": "kill", "mark": str(tmp_path / "mark"), "steps": 3}
    tuner = tune.Tuner(
        trainer(tmp_path, train_loop_config=config),
        run_config=place(tmp_path, failure_config=tune.FailureConfig(max_failures=1)),
    )
    (result,) = tuner.fit()
    assert list(result.metrics_dataframe["step"]) == [1, 2, 3]
    again = tune.Tuner.restore(
        str(tmp_path / "tuned"), trainer(tmp_path / "other", train_loop_config=config)
    )
    (result,) = again.fit()
    assert result.metrics["step"] == 3


def test_its_run_config(tmp_path: Path) -> None:
    """It counts where the tuner has none."""
    results = tune.Tuner(trainer(tmp_path, train_loop_config={"steps": 1})).fit()
    assert results.experiment_path == str(tmp_path / "run")


def test_a_trial_that_trains(tmp_path: Path) -> None:
    """What rank 0 reports, the trial reports; and the tuner's stop ends the training run."""

    def trial(config: dict[str, Any]) -> None:
        callback = TuneReportCallback()
        name = tune.get_context().get_trial_id()
        inner = trainer(
            tmp_path / "inner",
            train_loop_config={"steps": config["steps"]},
            run={"name": name, "callbacks": [callback]},
        )
        inner.fit()

    tuner = tune.Tuner(
        trial,
        param_space={"steps": tune.grid_search([2, 50])},
        run_config=place(tmp_path, stop={"training_iteration": 3}),
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
    )
    short, long = tuner.fit()
    assert (short.error, long.error) == (None, None)
    assert list(short.metrics_dataframe["step"]) == [1, 2]
    assert list(long.metrics_dataframe["step"]) == [1, 2, 3]
    for result in (short, long):
        path = result.metrics["checkpoint_path"]
        assert Path(path, "step").read_text() == str(result.metrics["step"])


def test_a_trial_that_trains_in_its_own_process(tmp_path: Path) -> None:
    """The trial's own reports come through, during and after that."""

    def trial(config: dict[str, Any]) -> None:
        callback = TuneReportCallback()
        inner = trainer(
            tmp_path / "inner",
            workers=0,
            train_loop_config={"steps": 2},
            run={"callbacks": [callback]},
        )
        inner.fit()
        assert tune.get_context().get_trial_id() is not None
        tune.report({"step": 3})

    (result,) = tune.Tuner(trial, run_config=place(tmp_path)).fit()
    assert result.error is None
    assert list(result.metrics_dataframe["step"]) == [1, 2, 3]


def test_a_trainer_has_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is asked for one."""
    tune.Tuner(trainer(tmp_path, train_loop_config={"steps": 1})).fit()
    assert "has no name" not in caplog.text
