"""Trials on one CPU whose course a scheduler decides, from when they report to whom they copy.

Run as a script, like :mod:`chaos.searches`; the scenario names the scheduler. One trial runs at a
time, so that results come in one order only and every decision can be compared.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import milepost
from chaos import books
from milepost import tune
from milepost.tune import Checkpoint, CheckpointConfig, RunConfig, TuneConfig
from milepost.tune.schedulers import (
    ASHAScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)
from milepost.tune.schedulers.pb2 import PB2
from milepost.tune.search.bohb import TuneBOHB

NAME = "exp"
RATES = [0.4, 0.1, 0.5, 0.2, 0.6, 0.3]


def _advance(state: dict[str, Any], rate: float) -> dict[str, Any]:
    """One epoch: the weights say with which rates they were made."""
    weights = [*state["weights"], rate]
    return {"weights": weights, "score": sum(weights) - len(weights) * abs(rate - 0.4)}


def train(config: dict[str, Any]) -> None:
    """Report what the weights alone decide, and save as often as told."""
    trial = str(tune.get_context().get_trial_id())
    state: dict[str, Any] = {"weights": []}
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            state = json.loads(Path(directory, "state").read_text())
    for epoch in range(len(state["weights"]) + 1, config["epochs"] + 1):
        books.note("begin", trial, 0, epoch, "-")
        state = _advance(state, config["rate"])
        with tempfile.TemporaryDirectory(prefix="subject-") as directory:
            Path(directory, "state").write_text(json.dumps(state))
            saved = Checkpoint.from_directory(directory) if epoch % config["every"] == 0 else None
            tune.report(dict(state), checkpoint=saved)


class Learner(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.state: dict[str, Any] = {"weights": []}

    def step(self) -> dict[str, Any]:
        books.note("begin", self.trial_id, 0, self.iteration + 1, "-")
        self.state = _advance(self.state, self.config["rate"])
        return {**self.state, "done": len(self.state["weights"]) >= self.config["epochs"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "state").write_text(json.dumps(self.state))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        self.state = json.loads(Path(checkpoint_dir, "state").read_text())


def _population(kind: Any = PopulationBasedTraining, **options: Any) -> Any:
    if kind is PopulationBasedTraining:
        options["hyperparam_mutations"] = {"rate": tune.uniform(0.1, 0.7)}
    # Synchronous ones: else whose checkpoint is committed first decides who comes next.
    return kind(
        time_attr="training_iteration",
        perturbation_interval=2,
        quantile_fraction=0.4,
        synch=True,
        **options,
    )


#: Scenario -> trainable, rates of the first trials, epochs, how often functions save, scheduler.
SCHEDULES: dict[str, Callable[[], tuple[Any, list[float], int, int, Any]]] = {
    "asha": lambda: (train, RATES, 5, 2, ASHAScheduler(max_t=5, reduction_factor=2)),
    "hyperband": lambda: (train, RATES, 4, 1, HyperBandScheduler(max_t=4, reduction_factor=2)),
    "hyperband-class": lambda: (
        Learner, RATES, 4, 0, HyperBandScheduler(max_t=4, reduction_factor=2)
    ),
    "bohb": lambda: (train, RATES, 4, 1, HyperBandForBOHB(max_t=4, reduction_factor=2)),
    "median": lambda: (
        train,
        RATES,
        5,
        3,
        MedianStoppingRule("training_iteration", grace_period=1, min_samples_required=2),
    ),
    "pbt": lambda: (train, RATES[:4], 6, 2, _population()),
    "pb2": lambda: (
        train, RATES[:4], 6, 2, _population(PB2, hyperparam_bounds={"rate": [0.1, 0.7]})
    ),
}  # fmt: skip


def _search(scenario: str, rates: list[float]) -> dict[str, Any]:
    if scenario != "bohb":
        return {}
    return {"search_alg": TuneBOHB(seed=3), "num_samples": len(rates)}


def tuner(scenario: str) -> tune.Tuner:
    """A new experiment, in the default storage path."""
    trainable, rates, epochs, every, scheduler = SCHEDULES[scenario]()
    rate = tune.uniform(0.1, 0.7) if scenario == "bohb" else tune.grid_search(rates)
    return tune.Tuner(
        trainable,
        param_space={"rate": rate, "epochs": epochs, "every": every},
        tune_config=TuneConfig(
            metric="score", mode="max", scheduler=scheduler, **_search(scenario, rates)
        ),
        run_config=RunConfig(
            name=NAME, verbose=0, checkpoint_config=CheckpointConfig(num_to_keep=1)
        ),
    )


def _rounded(value: Any) -> Any:
    """Without the last digits, in which two optimizations of one model may differ."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def main(request: dict[str, Any]) -> None:
    """Run, and print what became of all trials, in their order."""
    milepost.init(num_cpus=1)
    restores = request["do"] == "restore" and tune.Tuner.can_restore(request["path"])
    seed = 99 if restores else 7  # as in any other process of the user's; what is recorded counts
    random.seed(seed)
    np.random.seed(seed)
    if restores:
        made = tune.Tuner.restore(request["path"], SCHEDULES[request["scenario"]]()[0])
    else:
        made = tuner(request["scenario"])
    made.fit()
    trials = tune.ExperimentAnalysis(os.path.expanduser(f"~/milepost_results/{NAME}")).trials
    told = [
        [trial.status, trial.config, trial.experiment_tag, trial.last_result.get("weights")]
        for trial in trials
    ]
    print("TOLD", json.dumps(_rounded(told)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
