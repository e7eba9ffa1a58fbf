"""10,000 trials in one run (Ray: 300, with reused workers): does it slow down or grow?"""

from __future__ import annotations

import time
from typing import Any

from common import is_ray, rss_bytes, run_config, start, storage, tell, tune_module

tune = tune_module()
TRIALS = 300 if is_ray() else 10_000
#: Trials at the start and at the end whose times are compared.
WINDOW = TRIALS // 10
#: Memory is compared between this many finished trials and the end.
SETTLED = TRIALS // 5


class Pace(tune.Callback):  # type: ignore[misc]
    """Notes when each trial ended, and the driver's memory."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.memory: dict[int, int] = {}

    def on_trial_complete(self, **info: Any) -> None:
        self.ended.append(time.perf_counter())
        if len(self.ended) in (SETTLED, TRIALS):
            self.memory[len(self.ended)] = rss_bytes()


def train(config: dict[str, float]) -> None:
    tune.report({"loss": config["x"]})


def main() -> None:
    start(2)
    pace = Pace()
    with storage() as path:
        tuner = tune.Tuner(
            train,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=TRIALS, reuse_actors=is_ray()),
            run_config=run_config(path, callbacks=[pace]),
        )
        tuner.fit()
    begin = (pace.ended[WINDOW] - pace.ended[0]) / WINDOW
    end = (pace.ended[-1] - pace.ended[-1 - WINDOW]) / WINDOW
    slope = (pace.memory[TRIALS] - pace.memory[SETTLED]) / (TRIALS - SETTLED)
    tell(
        trials=TRIALS,
        trial_at_start_s=begin,
        trial_at_end_s=end,
        end_over_start=end / begin,
        driver_bytes_per_trial=slope,
    )


main()
