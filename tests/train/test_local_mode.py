"""Training in the driver's own process: the same results, checkpoints and errors."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from loops import begun, part, trainer

from milepost import train
from milepost.train import Result, collective


def loop(config: dict[str, Any]) -> int:
    """What it does shows in lists of the driver."""
    start = begun()
    for step in range(start + 1, config["steps"] + 1):
        collective.barrier()
        if step == config.get("fails") and step not in config["failed"]:
            config["failed"].append(step)
            raise KeyError(step)
        config["seen"].append((os.getpid(), threading.current_thread().name, os.getcwd()))
        train.report({"step": step}, checkpoint=part(step=str(step)))
    return start


def test_it_runs_here(tmp_path: Path) -> None:
    """In this process, thread and directory; what it leaves is what others leave."""
    seen: list[Any] = []
    before = dict(os.environ)

    def function(config: dict[str, Any]) -> int:
        return loop({**config, "seen": seen})

    one = trainer(tmp_path, function, workers=0, train_loop_config={"steps": 3})
    result = one.fit()
    assert set(seen) == {(os.getpid(), threading.main_thread().name, os.getcwd())}
    assert (result.return_value, result.metrics["step"]) == (0, 3)
    assert dict(os.environ) == before
    found = Result.from_path(str(tmp_path / "run"))
    assert found.checkpoint.path == result.checkpoint.path
    assert list(found.metrics_dataframe["step"]) == [1, 2, 3]
    assert trainer(tmp_path, train_loop_config={"steps": 4}).fit().return_value == 3
    assert one.fit().return_value == 4


def test_failures(tmp_path: Path) -> None:
    """It starts again from the latest checkpoint, and ends with the error of the worker."""
    shared: dict[str, Any] = {"seen": [], "failed": [], "fails": 2}

    def function(config: dict[str, Any]) -> int:
        return loop({**config, **shared})

    options: dict[str, Any] = {"workers": 0, "train_loop_config": {"steps": 3}}
    assert trainer(tmp_path, function, max_failures=1, **options).fit().return_value == 1
    shared["failed"].clear()
    again = {**options, "run": {"name": "other"}}
    with pytest.raises(train.WorkerGroupError, match=r"\[rank 0\]") as caught:
        trainer(tmp_path, function, **again).fit()
    assert isinstance(caught.value.worker_failures[0], KeyError)
    assert train.get_context.__name__ == "get_context"
    with pytest.raises(RuntimeError, match="outside a training worker"):
        train.get_context()
