"""A run of 10,000 trials is killed near its end: how long until its restore has a new report?

And how long does it take to open what there is for reading, in a process that knows nothing of
the trainable?
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from common import run_config, start, storage, tell, tune_module

tune = tune_module()
TRIALS = 10_000
KILLED_AT = TRIALS - 100


def train(config: dict[str, float]) -> None:
    tune.report({"loss": config["x"]})


class Kill(tune.Callback):  # type: ignore[misc]
    """Kills the driver after a number of trials."""

    def __init__(self) -> None:
        self.ended = 0

    def on_trial_complete(self, **info: Any) -> None:
        self.ended += 1
        if self.ended == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


class First(tune.Callback):  # type: ignore[misc]
    """Notes the first report."""

    at: float | None = None

    def on_trial_result(self, **info: Any) -> None:
        if self.at is None:
            self.at = time.time()


def run(path: str) -> None:
    start(2)
    tune.Tuner(
        train,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=TRIALS),
        run_config=run_config(path, name="run", callbacks=[Kill()]),
    ).fit()


def restore(path: str, began: float) -> None:
    start(2)
    first = First()
    config = run_config(path, name="run", callbacks=[first])
    tuner = tune.Tuner.restore(os.path.join(path, "run"), train, run_config=config)
    grid = tuner.fit()
    assert first.at is not None
    assert (len(grid), grid.num_terminated) == (TRIALS, TRIALS)
    tell(restore_to_report_s=first.at - began)


def main() -> None:
    if len(sys.argv) > 2:
        role, path = sys.argv[2:4]
        if role == "run":
            run(path)
        else:
            restore(path, time.time())
        return
    with storage() as path:
        command = [sys.executable, __file__, "milepost"]
        done = subprocess.run([*command, "run", path], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        subprocess.run([*command, "restore", path], check=True)


main()
