"""How long ``report`` blocks with a checkpoint, when the previous one is safe already.

From ``mkdtemp`` (deleted later) and ``TemporaryDirectory`` (deleted at once) alike. Where a stop
condition has to be asked (``judged``), the answer is waited for as well.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from typing import Any

from common import is_ray, p50, run_config, start, storage, tell, tune_module

tune = tune_module()
MIB = 1024**2
#: name -> (files, bytes of each, reports, stop condition)
LAYOUTS = {
    "4KiB": (1, 4096, 50, None),
    "8x1MiB": (8, MIB, 30, None),
    "8x1MiB_judged": (8, MIB, 30, {"training_iteration": 10**6}),
    "512MiB": (1, 512 * MIB, 3 if is_ray() else 9, None),
}


def train(config: dict[str, Any]) -> None:
    def fill(folder: str) -> None:
        for number in range(config["files"]):
            with open(os.path.join(folder, f"part-{number}"), "wb") as file:
                left = config["bytes"]
                while left:
                    left -= file.write(os.urandom(min(left, 4 * 1024**2)))

    def report(folder: str) -> float:
        checkpoint = tune.Checkpoint.from_directory(folder)
        began = time.perf_counter()
        tune.report({"loss": 1.0}, checkpoint=checkpoint)
        return time.perf_counter() - began

    blocked: dict[str, list[float]] = {"mkdtemp": [], "TemporaryDirectory": []}
    for _ in range(config["reports"]):
        folder = tempfile.mkdtemp()
        fill(folder)
        blocked["mkdtemp"].append(report(folder))
        tune.get_checkpoint()  # the checkpoint is safe when this returns
        shutil.rmtree(folder)
        with tempfile.TemporaryDirectory() as folder:
            fill(folder)
            blocked["TemporaryDirectory"].append(report(folder))
        tune.get_checkpoint()
    with open(config["out"], "w") as file:
        json.dump(blocked, file)


def main() -> None:
    start(1)
    figures = {}
    with storage() as path:
        for name, (files, size, reports, stop) in LAYOUTS.items():
            out = os.path.join(path, f"{name}.json")
            grid = tune.Tuner(
                train,
                param_space={"files": files, "bytes": size, "reports": reports, "out": out},
                run_config=run_config(
                    path,
                    name=name,
                    stop=stop,
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                ),
            ).fit()
            assert grid.num_errors == 0, grid.errors
            with open(out) as file:
                for source, seconds in json.load(file).items():
                    figures[f"{name}_{source}_s"] = p50(seconds[1:])
            shutil.rmtree(os.path.join(path, name))
    tell(**figures)


main()
