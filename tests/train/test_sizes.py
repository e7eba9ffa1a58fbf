"""Groups that may have several sizes: they take what there is room for, and grow when more is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import begun, part, rank

import milepost
from milepost import train, tune

pytestmark = pytest.mark.timeout(100)


@pytest.fixture(autouse=True)
def two_cpus() -> Iterator[None]:
    """A machine with two CPUs."""
    milepost.shutdown()
    milepost.init(num_cpus=2)
    yield
    milepost.shutdown()


def wait_for(path: Path) -> None:
    while not path.exists():
        threading.Event().wait(0.01)


def shared(config: dict[str, Any]) -> None:
    """The fixed trial runs from the failure of the elastic one until that is half through."""
    root, size = Path(config["root"]), train.get_context().get_world_size()
    if not config["elastic"]:
        (root / "other-runs").touch()
        wait_for(root / "smaller")
        train.report({"step": 0, "size": size})
        return
    for step in range(begun() + 1, 7):
        if step == 2 and rank() == 1:
            wait_for(root / "queued")
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 4 and size == 1:
            (root / "smaller").touch()
            while train.get_preemption_info() is None:
                threading.Event().wait(0.01)
            info = train.get_preemption_info()
            (root / "told").write_text(f"{info.reason} {info.preempted_ranks}" if info else "")
        saved = part(step=str(step)) if rank() == 0 else None
        train.report({"step": step, "size": size}, checkpoint=saved)
        (root / "queued").touch()


def test_shrinking_and_growing(tmp_path: Path) -> None:
    """A restart takes what is left; when more is free, the workers save and more of them go on."""

    def scaling(number: Any) -> dict[str, Any]:
        return {"num_workers": number}

    space = {
        "each": tune.grid_search([True, False]),
        "scaling_config": tune.sample_from(lambda spec: scaling((1, 2) if spec.config.each else 1)),
        "train_loop_config": {
            "root": str(tmp_path),
            "elastic": tune.sample_from(lambda spec: spec.config.each),
        },
    }
    trainer = train.DataParallelTrainer(
        shared, scaling_config=train.ScalingConfig(elastic_resize_monitor_interval_s=0.05)
    )
    results = tune.Tuner(
        trainer,
        param_space=space,
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(tmp_path / "storage"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    ).fit()
    assert not results.errors
    frame = results[0].metrics_dataframe
    assert frame is not None
    assert list(frame["step"]) == [1, 2, 3, 4, 5, 6]
    assert list(frame["size"]) == [2, 1, 1, 1, 2, 2]
    assert (tmp_path / "told").read_text() == "RESIZE []"


def test_less_than_the_least_waits(tmp_path: Path) -> None:
    """A trial that needs two workers at least starts when they are free."""

    def loop(config: dict[str, Any]) -> None:
        train.report({"size": train.get_context().get_world_size()})

    trainer = train.DataParallelTrainer(loop, scaling_config=train.ScalingConfig(num_workers=1))
    results = tune.Tuner(
        trainer,
        param_space={"scaling_config": {"num_workers": tune.grid_search([1, (2, 3)])}},
        run_config=tune.RunConfig(name="run", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert [result.metrics["size"] for result in results] == [1, 2]
