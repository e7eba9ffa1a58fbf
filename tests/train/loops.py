"""Training functions for tests, and a trainer that runs them quickly."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

from milepost import train
from milepost.train import (
    CheckpointConfig,
    DataParallelTrainer,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)


def rank() -> int:
    return train.get_context().get_world_rank()


def part(**files: str) -> train.Checkpoint:
    """A directory with files."""
    directory = tempfile.mkdtemp()
    for name, text in files.items():
        Path(directory, name).write_text(text)
    return train.Checkpoint.from_directory(directory)


def begun() -> int:
    """The step that the checkpoint was made after, or 0."""
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as directory:
        return int(Path(directory, "step").read_text())


def steps(config: dict[str, Any]) -> int:
    """As many steps as asked for; rank 0 saves. Whoever is named dies once, in the way named.

    Returns the step after which it began.
    """
    start = begun()
    for step in range(start + 1, config.get("steps", 3) + 1):
        if config.get("dies") == (rank(), step) and not Path(config["mark"]).exists():
            Path(config["mark"]).touch()
            if config["how"] == "raise":
                raise KeyError(f"rank {rank()}")
            os.kill(os.getpid(), signal.SIGKILL)
        metrics = {"step": step, "rank": rank(), "loss": 1 / step}
        train.report(metrics, checkpoint=part(step=str(step)) if rank() == 0 else None)
    return start


def trainer(root: Path, loop: Any = steps, workers: int = 2, **options: Any) -> DataParallelTrainer:
    """A trainer of small workers, whose run is ``root/run``."""
    run = options.pop("run", {})
    failures = options.pop("max_failures", 0)
    keep = options.pop("keep", {})
    return DataParallelTrainer(
        loop,
        scaling_config=ScalingConfig(
            num_workers=workers, resources_per_worker={"CPU": 0.5 if workers < 5 else 0.1}
        ),
        run_config=RunConfig(
            **{"name": "run", "storage_path": str(root), "verbose": 0, **run},
            failure_config=FailureConfig(max_failures=failures),
            checkpoint_config=CheckpointConfig(**keep),
        ),
        **options,
    )


def step_of(checkpoint: train.Checkpoint) -> int:
    with checkpoint.as_directory() as directory:
        return int(Path(directory, "step").read_text())


def saves(config: dict[str, Any]) -> None:
    """Three steps, each with a checkpoint of rank 0 that is to be validated."""
    for step in range(begun_after(), 3):
        if rank() == 0:
            train.report(
                {"step": step, "loss": 5}, checkpoint=part(step=str(step)), validation=True
            )
        else:
            train.report({"step": step})


def begun_after() -> int:
    """The step that comes after the checkpoint's, or 0."""
    checkpoint = train.get_checkpoint()
    return 0 if checkpoint is None else step_of(checkpoint) + 1


def check(checkpoint: train.Checkpoint, **given: Any) -> Any:
    """Step 1 scores best. It notes which step it is at, waits at a gate, and fails as asked for."""
    step = step_of(checkpoint)
    if "log" in given:
        with open(given["log"], "a") as file:
            file.write(str(step))
    if "gate" in given:
        with open(f"{given['gate']}-{step}") as gate:  # until somebody has opened it for writing
            gate.read()
    if given.get("fails") == step:
        return fail(given["how"])
    return {"score": -abs(step - 1), "loss": step + given.get("plus", 0)}


def fail(how: str) -> Any:
    match how:
        case "raise":
            raise KeyError("broken")
        case "leave":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "end":
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()
        case "lock":
            return {"lock": threading.Lock()}
        case "hang":
            threading.Event().wait()
        case "ours":
            return {"training_iteration": 5}
    return how
