"""Opening an experiment of 10,000 trials for reading, in a process that never saw the trainable."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from common import storage, tell, tune_module

TRIALS = 10_000


def read(path: str) -> None:
    began = time.perf_counter()
    tune = tune_module()
    imported = time.perf_counter()
    grid = tune.ResultGrid(tune.ExperimentAnalysis(path))
    opened = time.perf_counter()
    assert len(grid) == TRIALS
    assert "train" not in sys.modules
    (directory,) = (grid[position].path for position in [TRIALS // 2])
    one = time.perf_counter()
    assert tune.Result.from_path(directory).metrics["training_iteration"] == 3
    read_one = time.perf_counter()
    best = grid.get_best_result("loss", "min")
    assert best.metrics["loss"] == 0
    tell(
        trials=TRIALS,
        open_grid_s=opened - imported,
        open_grid_with_import_s=opened - began,
        open_result_s=read_one - one,
        best_of_all_s=time.perf_counter() - read_one,
    )


def main() -> None:
    if len(sys.argv) > 2:
        read(sys.argv[2])
        return
    import made  # not in the process that reads

    with storage() as root:
        path = os.path.join(root, "experiment")
        made.experiment(path, TRIALS)
        subprocess.run([sys.executable, __file__, "milepost", path], check=True)


main()
