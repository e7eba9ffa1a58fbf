"""A training run of two CPU workers: its start, its reports, and a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from common import is_ray, library, p50, start, storage, tell

train = import_module(f"{library()}.train")
collective = import_module(f"{library()}.train.collective")
MODULE = "v2.api.data_parallel_trainer" if is_ray() else "data_parallel_trainer"
Trainer = import_module(f"{library()}.train.{MODULE}").DataParallelTrainer
RAY = is_ray()
MIB = 1024**2
#: Ray takes about two seconds for each.
REPORTS = 8 if RAY else 50
KILLED_AT = 3


def report(step: int, size: int, metrics: dict[str, Any]) -> float:
    """Report, with a checkpoint of rank 0 if it has a size; return how long that blocked."""
    rank = train.get_context().get_world_rank()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if size and rank == 0:
            with open(os.path.join(folder, "step"), "w") as file:
                file.write(str(step))
            with open(os.path.join(folder, "model"), "wb") as file:
                for _ in range(size // MIB):
                    file.write(os.urandom(MIB))
            checkpoint = train.Checkpoint.from_directory(folder)
        collective.barrier()  # what rank 0 does meanwhile is not the report's fault
        began = time.perf_counter()
        train.report(metrics, checkpoint=checkpoint)
        return time.perf_counter() - began


def loop(config: dict[str, Any]) -> None:
    rank = train.get_context().get_world_rank()
    out = Path(config["out"])
    if rank == 0:
        (out / "began").write_text(str(time.time()))
    figures: dict[str, Any] = {}
    for name, size, reports in (
        ("metrics", 0, REPORTS),
        ("1MiB", MIB, REPORTS),
        ("512MiB", 512 * MIB, 3 if RAY else 8),
    ):
        blocked = []
        for step in range(reports):
            blocked.append(report(step, size, {"loss": 1.0}))
            if size > MIB:
                train.get_checkpoint()  # the checkpoint is safe when this returns
        figures[f"report_{name}_rank{rank}_s"] = p50(blocked[1:])
        figures[f"reports_{name}_rank{rank}_per_s"] = (reports - 1) / sum(blocked[1:])
    (out / f"{rank}.json").write_text(json.dumps(figures))


def killed(config: dict[str, Any]) -> None:
    rank = train.get_context().get_world_rank()
    first, out = 0, Path(config["out"])
    checkpoint = train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            first = int(Path(folder, "step").read_text())
    for step in range(first + 1, KILLED_AT + 3):
        if step == KILLED_AT + 1 and rank == 1 and not (out / "killed").exists():
            train.get_checkpoint()
            time.sleep(5 if RAY else 0.5)  # the checkpoint is on record
            (out / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        report(step, MIB, {"step": step})
        if (out / "killed").exists() and not (out / "resumed").exists() and rank == 0:
            (out / "resumed").write_text(str(time.time()))


def run(function: Any, path: str, out: str) -> float:
    """Train; return when ``fit`` was called."""
    trainer = Trainer(
        function,
        train_loop_config={"out": out},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            name=function.__name__,
            storage_path=path,
            failure_config=train.FailureConfig(max_failures=2),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
            **({} if RAY else {"verbose": 0}),
        ),
    )
    began = time.time()
    trainer.fit()
    return began


def main() -> None:
    start(3)
    figures: dict[str, float] = {}
    with storage() as path, tempfile.TemporaryDirectory() as out:
        began = run(loop, path, out)
        figures["start_s"] = float(Path(out, "began").read_text()) - began
        for rank in (0, 1):
            figures |= json.loads(Path(out, f"{rank}.json").read_text())
        run(killed, path, out)
        moments = [float(Path(out, name).read_text()) for name in ("killed", "resumed")]
        figures["kill_to_resumed_report_s"] = moments[1] - moments[0]
    tell(**figures)


main()
