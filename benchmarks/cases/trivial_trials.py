"""Trials that report once, two at a time: 200 of them (Ray runs 10), in fresh processes each."""

from __future__ import annotations

import time

from common import is_ray, run_config, start, storage, tell, tune_module

tune = tune_module()
TRIALS = 10 if is_ray() else 200


def train(config: dict[str, float]) -> None:
    tune.report({"loss": config["x"]})


def main() -> None:
    start(2)
    with storage() as path:
        tuner = tune.Tuner(
            train,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=TRIALS, max_concurrent_trials=2),
            run_config=run_config(path),
        )
        began = time.perf_counter()
        grid = tuner.fit()
        took = time.perf_counter() - began
    assert len(grid) == TRIALS
    assert grid.num_errors == 0
    tell(trials=TRIALS, trial_s=took / TRIALS, for_200_trials_s=200 * took / TRIALS)


main()
