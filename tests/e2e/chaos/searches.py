"""Eight trials, one after the other, proposed by one of several searches.

Run as a script, like :mod:`chaos.subject`; the scenario names the search.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

import milepost
from chaos import books
from milepost import tune
from milepost.tune import Checkpoint
from milepost.tune.search import ConcurrencyLimiter, Searcher
from milepost.tune.search.basic_variant import BasicVariantGenerator
from milepost.tune.stopper import Stopper

TRIALS = 8
EPOCHS = 2
NAME = "exp"


def train(config: dict[str, Any]) -> None:
    """Report what the config alone decides, and save each time."""
    trial = str(tune.get_context().get_trial_id())
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory, open(os.path.join(directory, "n")) as file:
            start = int(file.read())
    for epoch in range(start + 1, EPOCHS + 1):
        books.note("begin", trial, 0, epoch, "-")
        with tempfile.TemporaryDirectory(prefix="subject-") as directory:
            with open(os.path.join(directory, "n"), "w") as file:
                file.write(str(epoch))
            tune.report(
                {"score": -((config["x"] - 3) ** 2) + epoch},
                checkpoint=Checkpoint.from_directory(directory),
            )


class Climbing(Searcher):
    """Proposes something near the best so far, so that each result decides what comes next."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self.random = random.Random(5)
        self.best = (-1e9, 0.0)
        self.told = 0
        self.configs: dict[str, float] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        x = self.best[1] + self.random.gauss(0, 1) + self.told / 1000
        self.configs[trial_id] = x
        return {"x": x}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.told += 1

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if result is not None:
            self.best = max(self.best, (result["score"], self.configs[trial_id]))


class Saving(Climbing):
    """One that can be saved."""

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "wb") as file:
            pickle.dump((self.random.getstate(), self.best, self.told, self.configs), file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "rb") as file:
            state, self.best, self.told, self.configs = pickle.load(file)
        self.random.setstate(state)


class Enough(Stopper):
    """Ends the run when enough trials have come to their end."""

    def __init__(self) -> None:
        self.ended: set[str] = set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if result["training_iteration"] == EPOCHS:
            self.ended.add(trial_id)
        return False

    def stop_all(self) -> bool:
        return len(self.ended) >= TRIALS


def _seeded(**options: Any) -> dict[str, Any]:
    return {"search_alg": BasicVariantGenerator(max_concurrent=1, random_state=7, **options)}


def _library(module: str, name: str, **options: Any) -> dict[str, Any]:
    """A searcher over another library, one trial at a time."""
    kind = getattr(import_module(f"milepost.tune.search.{module}"), name)
    return {"num_samples": TRIALS, "search_alg": kind(**options), "max_concurrent_trials": 1}


def _defined(trial: Any) -> dict[str, Any]:
    """A space that Optuna sees only when it runs."""
    if trial.suggest_float("x", 0, 10) > 5:
        trial.suggest_int("more", 1, 3)
    return {"constant": 1}


X = {"x": tune.uniform(0, 10)}
NESTED = {
    "x": tune.loguniform(1e-3, 10),
    "y": {"z": tune.choice(["a", "b", "c"]), "n": tune.randint(0, 1000)},
    "later": tune.sample_from(lambda config: config["x"] * 2),
}
GRID = {"x": tune.uniform(0, 10), "a": tune.grid_search([1, 2]), "b": tune.grid_search([3, 4])}

#: Scenario -> its space and its options of TuneConfig.
SEARCHES: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = {
    "seeded": lambda: (NESTED, {"num_samples": TRIALS, **_seeded()}),
    "generator": lambda: (
        NESTED,
        {
            "num_samples": TRIALS,
            "search_alg": BasicVariantGenerator(
                max_concurrent=1, random_state=np.random.default_rng(7)
            ),
        },
    ),
    "global": lambda: (NESTED, {"num_samples": TRIALS, "max_concurrent_trials": 1}),
    "grid": lambda: (GRID, {"num_samples": 2, "max_concurrent_trials": 1}),
    "constant-grid": lambda: (GRID, {"num_samples": 2, **_seeded(constant_grid_search=True)}),
    "points": lambda: (
        NESTED,
        {
            "num_samples": TRIALS,
            **_seeded(points_to_evaluate=[{"x": 1.0}, {"x": 2.0, "y": {"z": "b"}}]),
        },
    ),
    "unlimited": lambda: (X, {"num_samples": -1, **_seeded()}),
    "learning": lambda: (
        {"constant": 1},
        {"num_samples": TRIALS, "search_alg": Saving(), "max_concurrent_trials": 1},
    ),
    "limited": lambda: (
        {},
        {"num_samples": TRIALS, "search_alg": ConcurrencyLimiter(Saving(), 1)},
    ),
    "optuna": lambda: (NESTED, _library("optuna", "OptunaSearch", seed=5)),
    "optuna-function": lambda: (
        {},
        _library("optuna", "OptunaSearch", space=_defined, metric="score", mode="max", seed=2),
    ),
    "hyperopt": lambda: (
        NESTED,
        _library("hyperopt", "HyperOptSearch", n_initial_points=3, random_state_seed=5),
    ),
    "nevergrad": lambda: (NESTED, _library("nevergrad", "NevergradSearch")),
    "forgetful": lambda: (
        {},
        {"num_samples": TRIALS, "search_alg": Climbing(), "max_concurrent_trials": 1},
    ),
}
#: Those whose whole state can be known again.
EXACT = tuple(name for name in SEARCHES if name != "forgetful")


def tuner(scenario: str) -> tune.Tuner:
    """A new experiment, in the default storage path."""
    space, options = SEARCHES[scenario]()
    return tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(metric="score", mode="max", **options),
        run_config=tune.RunConfig(
            name=NAME, verbose=0, stop=Enough() if scenario == "unlimited" else None
        ),
    )


def main(request: dict[str, Any]) -> None:
    """Run, and print the configs of all trials that have a result, in their order."""
    milepost.init(num_cpus=1)
    np.random.seed(7)
    if request["do"] == "restore" and tune.Tuner.can_restore(request["path"]):
        np.random.seed(99)  # as any other process of the user's; the recorded state counts
        made = tune.Tuner.restore(request["path"], train)
    else:
        made = tuner(request["scenario"])
    made.fit()
    trials = tune.ExperimentAnalysis(os.path.expanduser(f"~/milepost_results/{NAME}")).trials
    told = [
        [trial.config, trial.experiment_tag, trial.last_result["score"]]
        for trial in trials
        if trial.last_result and "score" in trial.last_result
    ]
    print("TOLD", json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
