"""What ``docs/restoring.md`` and users' habits rely on."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import tune

GUIDE = Path(__file__).parents[3] / "docs" / "restoring.md"


def fences(containing: str) -> str:
    """The one piece of Python in the guide with this text."""
    (code,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        if containing in code
    ]
    return code


class InterruptOnce(tune.Callback):
    """Presses Ctrl-C in the first run, so that it stops at its third result."""

    def __init__(self, marker: str) -> None:
        self.marker = Path(marker)
        self.results = 0

    def on_trial_result(self, **info: Any) -> None:
        self.results += 1
        if self.results == 2 and not self.marker.exists():
            self.marker.touch()
            signal.raise_signal(signal.SIGINT)


def test_a_script_that_may_be_started_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script of the guide, as it is, starts the experiment and then goes on with it."""
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "")
    script = fences("if tune.Tuner.can_restore(path):")

    def train(config: dict[str, Any]) -> None:
        for step in range(1, 4):
            if step == 2 and not (tmp_path / "second").exists():
                raise ValueError("not yet")
            tune.report({"step": step, "lr": config["lr"]})

    grids = []
    for _ in range(3):
        namespace = {"tune": tune, "os": os, "train": train, "storage_path": str(tmp_path / "s")}
        exec(script, namespace)
        grids.append(namespace["grid"])
        (tmp_path / "second").touch()
    assert [grid.num_errors for grid in grids] == [1, 0, 0]  # type: ignore[attr-defined]
    assert len({grid[0].config["lr"] for grid in grids}) == 1  # type: ignore[index]
    assert [grid[0].metrics["training_iteration"] for grid in grids] == [1, 3, 3]  # type: ignore[index]


@pytest.mark.chaos
def test_more_of_everything(tmp_path: Path) -> None:
    """The settings of the guide may all be given anew."""

    def train(config: dict[str, Any]) -> None:
        step = 0
        while True:
            step += 1
            tune.report({"step": step})

    run_config = tune.RunConfig(name="exp", storage_path=str(tmp_path), stop={"step": 2}, verbose=0)
    tune.Tuner(train, param_space={"lr": tune.uniform(0, 1)}, run_config=run_config).fit()
    code = fences("TuneConfig(num_samples=50)").replace("50", "3").replace('"cpu": 4', '"cpu": 1')
    tuner = eval(code, {"tune": tune, "path": tmp_path / "exp", "train": train})
    grid = tuner.fit()
    assert [result.metrics["step"] for result in grid] == [2, 200, 200]


@pytest.mark.chaos
def test_the_function_of_the_reference(tmp_path: Path) -> None:
    """get_checkpoint() is the trial's latest checkpoint when the experiment is restored."""
    marker = tmp_path / "interrupted"

    def train_func(config: dict[str, Any]) -> None:
        start = 1
        loaded = tune.get_checkpoint()
        if loaded:
            with loaded.as_directory() as loaded_dir:
                start = json.loads(Path(loaded_dir, "checkpoint.json").read_text())["epoch"] + 1
        for epoch in range(start, config["epochs"]):
            with tempfile.TemporaryDirectory() as temp_dir:
                Path(temp_dir, "checkpoint.json").write_text(json.dumps({"epoch": epoch}))
                checkpoint = tune.Checkpoint.from_directory(temp_dir)
                tune.report({"epoch": epoch, "start": start}, checkpoint=checkpoint)

    run_config = tune.RunConfig(
        name="exp",
        storage_path=str(tmp_path / "store"),
        callbacks=[InterruptOnce(str(marker))],
        verbose=0,
    )
    tuner = tune.Tuner(train_func, param_space={"epochs": 6}, run_config=run_config)
    cut = tuner.fit()
    assert cut[0].metrics["epoch"] == 3  # type: ignore[index]
    (result,) = tune.Tuner.restore(tmp_path / "store" / "exp", train_func).fit()
    assert (result.metrics["epoch"], result.metrics["start"]) == (5, 4)  # type: ignore[index]
    assert result.metrics["training_iteration"] == 5  # type: ignore[index]
