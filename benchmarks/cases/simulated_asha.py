"""The controller's CPU per result: ASHA over 10,000 simulated trials of up to 27 iterations.

Training is simulated, so there is no counterpart under Ray. What a trial costs beside its results
is measured by trials that report once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from common import run_config, storage, tell

TRIALS = 10_000
ITERATIONS = 27
TURNS = 3  # of which the fastest counts: others had to share the machine


def train(config: dict[str, Any]) -> None:
    raise AssertionError("nothing is trained")


def simulated(path: str, trials: int, iterations: int, scheduler: Any) -> Any:
    """One run; a fixed seed, so that decisions are the same each time."""
    from milepost import tune
    from milepost.testing import simulate
    from milepost.tune.search.basic_variant import BasicVariantGenerator

    def curve(config: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        for number in range(1, iterations + 1):
            yield 1.0, {"accuracy": config["x"] * (1 - 0.9**number)}

    tuner = tune.Tuner(
        train,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=trials,
            scheduler=scheduler,
            search_alg=BasicVariantGenerator(random_state=1),
        ),
        run_config=run_config(path),
    )
    return simulate(tuner, curve, slots=16)


def main() -> None:
    from milepost.tune.schedulers import ASHAScheduler, FIFOScheduler

    with storage() as path:
        once, often = (
            min(
                (
                    simulated(f"{path}/{count} {turn}", 500, count, FIFOScheduler())
                    for turn in range(TURNS)
                ),
                key=lambda simulation: simulation.cpu_s,
            )
            for count in (1, ITERATIONS)
        )
        began = time.perf_counter()
        asha = simulated(
            f"{path}/asha", TRIALS, ITERATIONS, ASHAScheduler(max_t=ITERATIONS, reduction_factor=3)
        )
        took_s = time.perf_counter() - began
    tell(
        trials=TRIALS,
        reports=asha.reports,
        asha_s=took_s,
        cpu_per_result_s=(often.cpu_s - once.cpu_s) / (often.reports - once.reports),
        cpu_per_trial_s=once.cpu_s / once.reports,
        asha_cpu_per_result_s=asha.cpu_s / asha.reports,
    )


main()
