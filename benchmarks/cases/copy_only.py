"""Where only copying is possible (files still open for writing): ``report`` against ``cp -r``."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

from common import run_config, start, storage, tell, tune_module

tune = tune_module()
FILES = 4
SIZE = 128 * 1024**2
ROUNDS = 5


def train(config: dict[str, Any]) -> None:
    report_s, cp_s = [], []
    folder = tempfile.mkdtemp()
    try:
        block = os.urandom(4 * 1024**2)
        writers = []
        for number in range(config["files"]):
            file = open(os.path.join(folder, f"part-{number}"), "wb")  # noqa: SIM115
            for _ in range(config["size"] // len(block)):
                file.write(block)
            file.flush()
            writers.append(file)
        for _ in range(config["rounds"]):
            began = time.perf_counter()
            tune.report({"loss": 1.0}, checkpoint=tune.Checkpoint.from_directory(folder))
            report_s.append(time.perf_counter() - began)
            tune.get_checkpoint()
            target = os.path.join(config["path"], "cp")
            began = time.perf_counter()
            subprocess.run(["cp", "-r", folder, target], check=True)
            cp_s.append(time.perf_counter() - began)
            shutil.rmtree(target)
        for file in writers:
            file.close()
    finally:
        shutil.rmtree(folder)
    report_s.sort()
    cp_s.sort()
    middle = config["rounds"] // 2
    tune.report({"report_s": report_s[middle], "cp_s": cp_s[middle]})


def main() -> None:
    start(1)
    with storage() as path:
        grid = tune.Tuner(
            train,
            param_space={"files": FILES, "size": SIZE, "rounds": ROUNDS, "path": path},
            run_config=run_config(path, checkpoint_config=tune.CheckpointConfig(num_to_keep=1)),
        ).fit()
    row = grid[0].metrics
    tell(report_s=row["report_s"], cp_s=row["cp_s"], report_over_cp=row["report_s"] / row["cp_s"])


main()
