"""Runs that are tracked, in places of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import tune

sys.path.insert(0, str(Path(__file__).parent))  # the module beside the tests

Fit = Callable[..., tune.ResultGrid]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test works; nothing is read from or written to the user's own places."""
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    monkeypatch.chdir(tmp_path / "work")
    for name in ("EXPERIMENT_NAME", "EXPERIMENT_ID", "TRACKING_URI", "TRACKING_TOKEN"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    return tmp_path


@pytest.fixture
def fit(home: Path) -> Fit:
    """Run an experiment with callbacks."""

    def run(callbacks: list[Any], space: dict[str, Any], **options: Any) -> tune.ResultGrid:
        from tracked_runs import train

        function = options.pop("function", train)
        return tune.Tuner(
            function,
            param_space=space,
            tune_config=tune.TuneConfig(max_concurrent_trials=2),
            run_config=tune.RunConfig(
                name="exp",
                storage_path=str(home / "results"),
                callbacks=callbacks,
                verbose=0,
                **options,
            ),
        ).fit()

    return run
