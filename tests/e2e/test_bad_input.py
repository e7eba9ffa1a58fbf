"""Mistakes inside trainables: each is a clear error of the call that received it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milepost import tune
from milepost.errors import TuneError


@pytest.fixture(autouse=True)
def _storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))


def outcome(train: Any) -> tune.Result:
    """Run a function whose mistake is caught and reported as a metric, or is its error."""
    return tune.Tuner(train, run_config=tune.RunConfig(verbose=0)).fit()[0]


def raised_by(call: Any) -> str:
    """What a call inside a trial raises, as text: the trial goes on afterwards."""

    def train(config: dict[str, Any]) -> None:
        try:
            call()
        except Exception as error:  # the point of these tests
            tune.report({"raised": f"{type(error).__name__}: {error}"})
        else:
            tune.report({"raised": "nothing"})

    metrics = outcome(train).metrics
    assert metrics is not None
    return str(metrics["raised"])


@pytest.mark.parametrize("metrics", [3, None, [("a", 1)], "loss"])
@pytest.mark.always("None", "loss")
def test_metrics_must_be_a_dict(metrics: Any) -> None:
    """report() of something else raises there, and names its type."""
    text = raised_by(lambda: tune.report(metrics))
    assert text.startswith("TypeError")
    assert type(metrics).__name__ in text or repr(metrics) in text


def test_a_done_that_is_neither_true_nor_false() -> None:
    """It says whether the trial is to end: numpy's bool does, an array does not."""
    text = raised_by(lambda: tune.report({"done": np.array([0, 1])}))
    assert text.startswith("ValueError")
    assert "'done' says whether the trial is to end" in text
    assert "array([0, 1])" in text
    assert raised_by(lambda: tune.report({"done": np.bool_(False)})) == "nothing"


def test_tensors_in_metrics() -> None:
    """A tensor anywhere in metrics is a ValueError that says where, and to use .item()."""

    def report() -> None:
        import torch

        tune.report({"deep": [{"loss": torch.ones(2)}]})

    text = raised_by(report)
    assert text.startswith("ValueError")
    assert "deep" in text
    assert ".item()" in text


def test_a_checkpoint_that_does_not_exist() -> None:
    """A missing directory is an error at report() that names it."""
    text = raised_by(
        lambda: tune.report({}, checkpoint=tune.Checkpoint.from_directory("/no/such/place"))
    )
    assert "/no/such/place" in text
    assert "nothing" not in text.split(":")[0]


def test_a_checkpoint_that_is_a_file(tmp_path: Path) -> None:
    """A file in place of a directory is an error at report() that names it."""
    file = tmp_path / "model.pt"
    file.write_bytes(b"weights")
    text = raised_by(lambda: tune.report({}, checkpoint=tune.Checkpoint.from_directory(str(file))))
    assert str(file) in text
    assert "Error" in text.split(":")[0]


def test_a_checkpoint_of_the_wrong_type() -> None:
    """A path in place of a Checkpoint is a TypeError that says what to write."""
    text = raised_by(lambda: tune.report({}, checkpoint="/tmp"))  # type: ignore[arg-type]
    assert text.startswith("TypeError")
    assert "Checkpoint.from_directory" in text


@pytest.mark.parametrize("value", ["text", [1], object])
@pytest.mark.always("object")
def test_return_values_that_are_no_result(value: Any) -> None:
    """A truthy return value that is neither dict nor number fails the trial with a ValueError."""
    error = outcome(lambda config: value).error
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("value", [None, 0, 0.0, {}, False])
@pytest.mark.always("None", "0")
def test_falsy_return_values_report_nothing(value: Any) -> None:
    """A falsy return value is no result, and no error either."""
    result = outcome(lambda config: value)
    assert result.error is None
    assert result.metrics is not None
    assert "training_iteration" not in result.metrics
    assert result.metrics_dataframe.empty


@pytest.mark.parametrize(("value", "metric"), [(3, 3), (True, True), (0.5, 0.5)])
@pytest.mark.always("0.5-0.5")
def test_numbers_are_results(value: Any, metric: Any) -> None:
    """A number that is returned is reported as ``_metric``."""
    metrics = outcome(lambda config: value).metrics
    assert metrics is not None
    assert metrics["_metric"] == metric


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.always("400")
def test_huge_integers(digits: int, tmp_path: Path) -> None:
    """An integer that no float holds is a metric like others, in results, files and tables."""

    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            directory = tempfile.mkdtemp(dir=tmp_path)
            huge = 10**digits
            tune.report(
                {"a": huge, "b": {"c": -huge}, "l": [huge], "timesteps_total": huge},
                checkpoint=tune.Checkpoint.from_directory(directory),
            )

    best_of = tune.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="a")
    grid = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(metric="a", mode="max"),
        run_config=tune.RunConfig(
            checkpoint_config=best_of, stop=tune.stopper.TrialPlateauStopper("a", num_results=9)
        ),
    ).fit()
    (result,) = grid
    assert result.error is None
    assert result.metrics["a"] == 10**digits
    assert result.metrics["training_iteration"] == 3
    assert len(result.metrics_dataframe) == 3
    assert len(grid.get_dataframe()) == 1
    assert grid.get_best_result().path == result.path
    assert len(result.best_checkpoints) == 1


@pytest.mark.parametrize("value", [None, "high", [1, 2]])
@pytest.mark.always("high")
def test_stop_criteria_of_other_types(value: Any) -> None:
    """A value that cannot be compared with its criterion ends the run with all that is known."""

    def train(config: dict[str, Any]) -> None:
        tune.report({"nested": {"a": value}})

    with pytest.raises(TuneError) as failure:
        tune.Tuner(train, run_config=tune.RunConfig(stop={"nested/a": 1})).fit()
    for told in ("nested/a", repr(value), type(value).__name__, "'nested/a': 1", "Trial "):
        assert told in str(failure.value)
    assert "Traceback" not in str(failure.value)


def test_exit_codes_are_errors() -> None:
    """A trial whose process ends by itself fails, and the error tells how."""
    import os

    error = outcome(lambda config: os._exit(7)).error
    assert "exit code 7" in str(error)


def test_steps_must_return_dicts() -> None:
    """A class whose step returns no dict fails with Ray's AssertionError."""

    class Wrong(tune.Trainable):
        def step(self) -> Any:
            return 3

    error = outcome(Wrong).error
    assert isinstance(error, AssertionError)
    assert "step() needs to return a dict" in str(error)


def test_too_many_resources() -> None:
    """A trial that can never fit is an error that says what it asks for and what there is."""
    train = tune.with_resources(lambda config: 1, {"cpu": 10_000})
    with pytest.raises(tune.TuneError, match="10000"):
        outcome(train)
