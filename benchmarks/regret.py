"""How fast schedulers find a good model: regret over time, in simulated runs.

    python benchmarks/regret.py docs/figures/regret.svg

Every method gets the same machine, 8 slots for 100 minutes, and the same task: a made-up model
whose loss after an epoch depends on its learning rate, its regularisation and luck. Curves are
simulated (:func:`milepost.testing.simulate`), decisions are those of the real schedulers. Regret is
how much worse the best loss so far is than the best that the task allows; it is averaged over
``--seeds`` runs of each method.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from milepost import tune
from milepost.testing import simulate
from milepost.tune.schedulers import (
    ASHAScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)

SLOTS = 8
EPOCHS = 81
EPOCH_S = 10.0
BUDGET_S = 6000.0
SPACE = {"lr": tune.loguniform(1e-4, 1.0), "l2": tune.loguniform(1e-6, 1e-1)}

Method = Callable[[], TrialScheduler | None]


def curve(
    config: dict[str, Any], state: tuple[float, int] = (1.0, 0)
) -> Iterator[tuple[float, dict[str, float], tuple[float, int]]]:
    """A loss that falls towards a floor.

    The closer learning rate and regularisation are to their best values, the faster it falls and
    the lower the floor is, so that good configs can be told before the end, but not at once. The
    best learning rate falls while one trains: no constant one is as good as one that changes.
    """
    loss, epoch = state
    luck = random.Random(repr(sorted(config.items())))
    for _ in range(epoch):
        luck.random()
    while epoch < EPOCHS:
        epoch += 1
        quality = fitness(config, epoch)
        loss += (0.02 + 0.1 * quality) * (0.4 * (1 - quality) - loss)
        seen = loss * (1 + 0.02 * (2 * luck.random() - 1))
        yield EPOCH_S, {"loss": seen, "true_loss": loss}, (loss, epoch)


def fitness(config: dict[str, Any], epoch: int) -> float:
    """How good a config is for an epoch, from 0 to 1."""
    off_lr = math.log10(config["lr"]) - (-1.0 - 1.0 * epoch / EPOCHS)
    off_l2 = math.log10(config["l2"]) + 4.0
    return math.exp(-(off_lr**2) / 2 - off_l2**2 / 4)


class Incumbent(tune.Callback):
    """Notes the best loss so far, and when it was seen."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        loss = result["true_loss"]
        if not self.steps or loss < self.steps[-1][1]:
            self.steps.append((result["timestamp"], loss))

    def at(self, time_s: float) -> float:
        """The best loss that was known then."""
        return min((loss for when, loss in self.steps if when <= time_s), default=1.0)


def population() -> PopulationBasedTraining:
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=6,
        hyperparam_mutations=dict(SPACE),
    )


METHODS: dict[str, Method] = {
    "random search": lambda: None,
    "HyperBand": lambda: HyperBandScheduler(max_t=EPOCHS),
    "ASHA": lambda: ASHAScheduler(max_t=EPOCHS, grace_period=3),
    "PBT": population,
}


def run(method: str, seed: int, folder: str) -> Incumbent:
    """Simulate a method for as long as it has."""
    random.seed(seed)
    incumbent = Incumbent()
    # A population has as many members as there are slots; the others try one config after another.
    samples = SLOTS if method == "PBT" else 2000
    tuner = tune.Tuner(
        lambda config: None,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=samples,
            scheduler=METHODS[method](),
            search_alg=tune.search.BasicVariantGenerator(random_state=seed),
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            name=f"{method} {seed}",
            verbose=0,
            callbacks=[incumbent],
            stop=lambda trial_id, result: result["timestamp"] >= BUDGET_S,
        ),
    )
    simulate(tuner, curve, slots=SLOTS)
    return incumbent


def lowest() -> float:
    """The loss that the best schedule of the learning rate reaches."""
    loss = 1.0
    for _ in range(EPOCHS):
        loss -= 0.12 * loss
    return loss


def draw(curves: dict[str, list[float]], times: list[float], path: str) -> None:
    """Draw the regret of each method over time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "milepost"  # the same bytes each time
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for method, values in curves.items():
        axes.plot([time / 60 for time in times], values, label=method)
    axes.set(xlabel="minutes", ylabel="regret", yscale="log", xlim=(0, BUDGET_S / 60))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Simulate every method, print a table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("figure", nargs="?", help="SVG file to write; needs matplotlib")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each method (%(default)s)")
    arguments = parser.parse_args()
    times = [BUDGET_S * part / 200 for part in range(1, 201)]
    best = lowest()
    curves: dict[str, list[float]] = {}
    print(f"{'regret after':20s}" + "".join(f"{m:>8d} min" for m in (10, 20, 50, 100)))
    for method in METHODS:
        with tempfile.TemporaryDirectory() as folder:
            runs = [run(method, seed, folder) for seed in range(arguments.seeds)]
        curves[method] = [
            statistics.fmean(incumbent.at(time) - best for incumbent in runs) for time in times
        ]
        at = (curves[method][int(m * 60 / BUDGET_S * 200) - 1] for m in (10, 20, 50, 100))
        print(f"{method:20s}" + "".join(f"{value:12.4f}" for value in at), flush=True)
    if arguments.figure:
        Path(arguments.figure).parent.mkdir(parents=True, exist_ok=True)
        draw(curves, times, arguments.figure)


if __name__ == "__main__":
    main()
