"""A whole process: import, one trial, one report, exit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from common import is_ray, library, p50, tell

SCRIPT = """
import sys
from {library} import tune

def train(config):
    tune.report({{"loss": 1.0}})

grid = tune.Tuner(train, run_config=tune.RunConfig(storage_path=sys.argv[1], verbose=0)).fit()
assert grid[0].metrics["loss"] == 1.0
"""


def main() -> None:
    seconds = []
    for _ in range(2 if is_ray() else 7):
        with tempfile.TemporaryDirectory() as storage:
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", SCRIPT.format(library=library()), storage],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - began)
    tell(process_s=p50(seconds))


main()
