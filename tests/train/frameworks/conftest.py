"""Trainers of small workers, and callbacks whose reports are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from milepost.train.context import TrainContext, entered

Reports = list[tuple[dict[str, Any], Any]]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    """What was reported: metrics, and the files of the checkpoint with its metadata, or None."""
    seen: Reports = []

    def report(metrics: dict[str, Any], checkpoint: Any = None, **options: Any) -> None:
        files = None
        if checkpoint is not None:
            files = {
                os.path.relpath(os.path.join(root, name), checkpoint.path): True
                for root, _, names in os.walk(checkpoint.path)
                for name in names
                if not name.startswith(".")
            } | checkpoint.get_metadata()
        seen.append((dict(metrics), files))

    for module in ("milepost.train.reporting.report_here", "milepost.train.session.report"):
        monkeypatch.setattr(module, report)
    return seen


@pytest.fixture
def worker() -> Callable[..., Any]:
    """Make this process one of several workers for a while: ``worker(rank, ranks)``."""

    def become(rank: int = 0, ranks: int = 1) -> Any:
        return entered(
            TrainContext(
                experiment_name="run",
                world_rank=rank,
                world_size=ranks,
                local_rank=rank,
                local_world_size=ranks,
                node_rank=0,
                storage=None,  # type: ignore[arg-type]
            )
        )

    return become


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    """Make a trainer of small workers, whose run is ``tmp_path/run``."""

    def made(kind: Any, loop: Any, workers: int = 2, max_failures: int = 0, **options: Any) -> Any:
        return kind(
            loop,
            scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
            run_config=RunConfig(
                name="run",
                storage_path=str(tmp_path),
                verbose=0,
                failure_config=FailureConfig(max_failures=max_failures),
                checkpoint_config=CheckpointConfig(),
            ),
            **options,
        )

    return made
