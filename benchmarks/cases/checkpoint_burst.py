"""Checkpoints faster than the disk: time blocked, and throughput against plain write + fsync."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from common import run_config, start, storage, tell, tune_module

tune = tune_module()
MIB = 1024**2
SIZE = 64 * MIB
COUNT = 8


def train(config: dict[str, Any]) -> None:
    block = os.urandom(4 * 1024**2)
    blocked = 0.0
    began = time.perf_counter()
    for _ in range(config["count"]):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "model"), "wb") as file:
                for _ in range(config["size"] // len(block)):
                    file.write(block)
            asked = time.perf_counter()
            tune.report({"loss": 1.0}, checkpoint=tune.Checkpoint.from_directory(folder))
            blocked += time.perf_counter() - asked
    tune.get_checkpoint()  # the last one is safe when this returns
    tune.report({"blocked_s": blocked, "took_s": time.perf_counter() - began})


def plain(path: str) -> float:
    """Seconds to write the same bytes into the same file system, each file flushed."""
    block = os.urandom(4 * MIB)
    began = time.perf_counter()
    for number in range(COUNT):
        with open(os.path.join(path, f"plain-{number}"), "wb") as file:
            for _ in range(SIZE // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - began


def main() -> None:
    start(1)
    with storage() as path:
        plain_s = plain(path)
        grid = tune.Tuner(
            train,
            param_space={"count": COUNT, "size": SIZE},
            run_config=run_config(path, checkpoint_config=tune.CheckpointConfig(num_to_keep=2)),
        ).fit()
    row = grid[0].metrics
    total = COUNT * SIZE / MIB
    tell(
        blocked_s=row["blocked_s"],
        MiB_per_s=total / row["took_s"],
        plain_MiB_per_s=total / plain_s,
        took_over_plain=row["took_s"] / plain_s,
    )


main()
