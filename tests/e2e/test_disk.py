"""Storage that fills up, disappears or may not be written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.checkpoint import verify
from milepost.errors import JournalError, StorageError


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(point)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture(autouse=True)
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))


def fill(config: dict[str, Any]) -> None:
    """Save five megabytes per epoch, each from a directory of its own."""
    import tempfile

    for epoch in range(10):
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "weights.bin").write_bytes(os.urandom(5 << 20))
            tune.report({"epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(directory))


def test_a_full_disk(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without room the trial fails clearly, once; what was committed stays."""
    grid = tune.Tuner(
        fill,
        run_config=tune.RunConfig(
            storage_path=str(small), failure_config=tune.FailureConfig(max_failures=-1), verbose=0
        ),
    ).fit()
    (result,) = grid
    assert result.error is not None
    said = str(result.error) + capfd.readouterr().err
    assert "No space left" in said
    assert "stay for journal and results" in said, "it began a copy that could not end well"
    kept = [c.path for c, _ in result.best_checkpoints or []]
    assert len(kept) >= 1
    for path in kept:
        assert verify.check(path, digests=True) == []
    visible = {p.name for p in Path(result.path).iterdir() if p.name.startswith("checkpoint_")}
    assert visible == {os.path.basename(path) for path in kept}


def test_results_that_fill_the_disk(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run ends with an error that says how to open what is there; nothing seems to run."""

    def train(config: dict[str, Any]) -> None:
        for step in range(10_000):
            tune.report({"step": step, "pad": "x" * 50_000})

    space = {"n": tune.grid_search([0, 1])}
    run = tune.RunConfig(storage_path=str(small), name="exp")
    with pytest.raises(JournalError, match=r"No space left") as failure:
        tune.Tuner(train, param_space=space, run_config=run).fit()
    opening = f"tune.ResultGrid(tune.ExperimentAnalysis({str(small / 'exp')!r}))"
    assert opening in str(failure.value)
    grid = eval(opening, {"tune": tune})
    assert len(grid) == 2
    assert any(result.metrics.get("step", 0) > 0 for result in grid)
    table = capfd.readouterr().out.rpartition("trials ended")[2]
    assert "2 unfinished" in table
    assert "running" not in table


def test_values_that_fill_the_disk(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that could not be stored leaves no file behind."""

    def train(config: dict[str, Any]) -> None:
        import numpy

        for step in range(1000):
            tune.report({"step": step, "array": numpy.full(1 << 17, step)})

    run = tune.RunConfig(storage_path=str(small), name="exp", verbose=0)
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with pytest.raises(JournalError, match="No space left"):
        tune.Tuner(train, run_config=run).fit()
    objects = os.listdir(small / "exp" / ".milepost" / "objects")
    assert objects
    assert [name for name in objects if name.startswith(".")] == []


def test_scratch_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable node root is a StorageError before any trial starts, and the name stays free."""
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "file" / "node"))
    run = tune.RunConfig(storage_path=str(tmp_path / "store"), name="exp", verbose=0)
    with pytest.raises(StorageError, match="MILEPOST_NODE_ROOT"):
        tune.Tuner(lambda config: 1, run_config=run).fit()
    assert os.listdir(tmp_path / "store") == []
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    assert tune.Tuner(lambda config: 1, run_config=run).fit().num_errors == 0
