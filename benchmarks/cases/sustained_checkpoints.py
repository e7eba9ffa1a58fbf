"""4 KiB checkpoints as fast as they can be reported, until the last one is safe."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from common import run_config, start, storage, tell, tune_module

tune = tune_module()
COUNT = 1_000


def train(config: dict[str, Any]) -> None:
    data = os.urandom(4096)
    began = time.perf_counter()
    for step in range(config["count"]):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "state"), "wb") as file:
                file.write(data)
            tune.report({"step": step}, checkpoint=tune.Checkpoint.from_directory(folder))
    tune.get_checkpoint()  # the last one is safe when this returns
    tune.report({"took_s": time.perf_counter() - began})


def main() -> None:
    start(1)
    with storage() as path:
        grid = tune.Tuner(
            train,
            param_space={"count": COUNT},
            run_config=run_config(path, checkpoint_config=tune.CheckpointConfig(num_to_keep=10)),
        ).fit()
    tell(checkpoints_per_s=COUNT / grid[0].metrics["took_s"])


main()
