"""``tune.run(restore=...)``: trials that start from a checkpoint that somebody else has made."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import tune


def train(config: dict[str, Any]) -> None:
    """Count on from the checkpoint; fail once, before there is one of its own."""
    checkpoint = tune.get_checkpoint()
    assert checkpoint is not None
    count = json.loads(Path(checkpoint.path, "count.json").read_text())
    failed = Path(tune.get_context().get_trial_dir(), "failed")
    if config["fails"] and not failed.exists():
        failed.touch()
        raise RuntimeError("once")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "count.json").write_text(json.dumps(count + 1))
        tune.report({"count": count + 1}, checkpoint=tune.Checkpoint.from_directory(directory))


class Counter(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "count.json").write_text(json.dumps(self.count))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.count = json.loads(Path(checkpoint_dir, "count.json").read_text())


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A directory without a manifest, as a user would have it."""
    directory = tmp_path / "given"
    directory.mkdir()
    (directory / "count.json").write_text("41")
    return directory


@pytest.mark.parametrize("fails", [False, True])
def test_every_trial_starts_from_it(tmp_path: Path, given: Path, fails: bool) -> None:
    """Also a retry that has no checkpoint of its own; counters start at 0, and it stays intact."""
    analysis = tune.run(
        train,
        config={"fails": fails, "x": tune.grid_search([1, 2])},
        storage_path=tmp_path / "results",
        restore=str(given),
        max_failures=1,
        verbose=0,
    )
    assert [trial.last_result["count"] for trial in analysis.trials] == [42, 42]
    assert [trial.last_result["training_iteration"] for trial in analysis.trials] == [1, 1]
    assert os.listdir(given) == ["count.json"]


def test_classes_load_it(tmp_path: Path, given: Path) -> None:
    """``load_checkpoint`` gets the directory."""
    analysis = tune.run(Counter, storage_path=tmp_path / "results", restore=given, verbose=0)
    assert analysis.trials[0].last_result["count"] == 42


def test_a_restored_run_remembers_it(tmp_path: Path, given: Path) -> None:
    """A trial that failed without a checkpoint of its own starts from it once more."""
    failing = tune.run(
        train,
        name="run",
        config={"fails": True},
        storage_path=tmp_path / "results",
        restore=str(given),
        raise_on_failed_trial=False,
        verbose=0,
    )
    assert failing.trials[0].status == "ERROR"
    grid = tune.Tuner.restore(str(tmp_path / "results" / "run"), train, resume_errored=True).fit()
    assert grid[0].metrics["count"] == 42
