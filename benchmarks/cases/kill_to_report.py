"""From a worker's SIGKILL to the next report of its trial."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from typing import Any

from common import p50, run_config, start, storage, tell, tune_module

tune = tune_module()
KILLS = 5


class Killer(tune.Callback):  # type: ignore[misc]
    """Kills the worker after every third report, and notes when the next one comes."""

    def __init__(self) -> None:
        self.results = 0
        self.killed_at: float | None = None
        self.seconds: list[float] = []

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        now = time.perf_counter()
        if self.killed_at is not None:
            self.seconds.append(now - self.killed_at)
            self.killed_at = None
        self.results += 1
        if self.results % 3 == 0 and len(self.seconds) < KILLS:
            os.kill(result["pid"], signal.SIGKILL)
            self.killed_at = time.perf_counter()


def train(config: dict[str, object]) -> None:
    step = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder, open(os.path.join(folder, "step")) as file:
            step = int(file.read())
    for number in range(step + 1, 40):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "step"), "w") as file:
                file.write(str(number))
            tune.report({"step": number}, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    start(1)
    killer = Killer()
    with storage() as path:
        tune.Tuner(
            train,
            run_config=run_config(
                path,
                callbacks=[killer],
                failure_config=tune.FailureConfig(max_failures=-1),
            ),
        ).fit()
    tell(kills=len(killer.seconds), kill_to_report_s=p50(killer.seconds))


main()
