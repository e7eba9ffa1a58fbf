"""Eight trials of which one fails, cut in the middle and restored with something changed.

Run as a script, like :mod:`chaos.subject`; the scenario names the change.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import milepost
from chaos import books, gates, moments
from milepost import tune
from milepost.tune import Checkpoint

TRIALS = 8
EPOCHS = 2
NAME = "exp"
SPACE = {"x": tune.uniform(0, 1), "unit": 1}
SEED = 3


def train(config: dict[str, Any]) -> None:
    """Go on until something ends the trial; the second trial fails once."""
    trial = str(tune.get_context().get_trial_id())
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory, open(os.path.join(directory, "n")) as file:
            start = int(file.read())
    epoch = start
    while True:
        epoch += 1
        books.note("begin", trial, 0, epoch, "-")
        if trial.endswith("_00001") and epoch == 2 and books.only_once("failed"):
            raise RuntimeError("this trial fails")
        if trial[-1] > "2" and epoch == 2:
            gates.wait_at("failure")  # so that there is much to do after it
        with tempfile.TemporaryDirectory(prefix="subject-") as directory:
            with open(os.path.join(directory, "n"), "w") as file:
                file.write(str(epoch))
            books.note("end", trial, 0, epoch, "-")
            tune.report(
                {"score": config["x"], **extra()}, checkpoint=Checkpoint.from_directory(directory)
            )
        tune.get_checkpoint()  # waits for the commit


class AfterTheError(tune.Callback):
    """Counts the results that come after a trial has failed."""

    failed = False

    def __init__(self) -> None:
        self.gate = gates.of("failure")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        if not self.failed:
            self.failed = True
            self.gate.open()

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        if self.failed:
            moments.reached("hook")


def extra() -> dict[str, Any]:
    """What the code reports besides; other code reports more."""
    return {}


def other_code() -> Callable[[dict[str, Any]], None]:
    """The same function after an edit."""

    def extra_of_other_code() -> dict[str, Any]:
        return {"version": 2}

    globals()["extra"] = extra_of_other_code
    return train


#: Scenario -> the arguments of ``restore`` besides the path.
CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "more-samples": lambda: {"tune_config": tune.TuneConfig(num_samples=12)},
    "fewer-samples": lambda: {"tune_config": tune.TuneConfig(num_samples=5)},
    "longer": lambda: {"run_config": tune.RunConfig(stop={"training_iteration": 4})},
    "shorter": lambda: {"run_config": tune.RunConfig(stop={"training_iteration": 1})},
    "resources": lambda: {"trainable": tune.with_resources(train, {"cpu": 4})},
    "concurrency": lambda: {"tune_config": tune.TuneConfig(max_concurrent_trials=2)},
    "max-failures": lambda: {
        "run_config": tune.RunConfig(failure_config=tune.FailureConfig(max_failures=2)),
        "resume_errored": True,
    },
    "restart-errored": lambda: {"restart_errored": True},
    "skip-unfinished": lambda: {"resume_unfinished": False},
    "code": lambda: {"trainable": other_code()},
    "space": lambda: {"param_space": {"x": tune.uniform(10, 11), "unit": 2}},
}


def tuner() -> tune.Tuner:
    """A new experiment, in the default storage path; trials are proposed when they can start."""
    return tune.Tuner(
        train,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=TRIALS,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            verbose=1,
            stop={"training_iteration": EPOCHS},
            callbacks=[AfterTheError()],
        ),
    )


def main(request: dict[str, Any]) -> None:
    """Run, and print what became of each trial."""
    milepost.init(num_cpus=4)
    np.random.seed(SEED)
    if request["do"] == "restore":
        options = CHANGES[request["scenario"]]()
        made = tune.Tuner.restore(request["path"], **{"trainable": train, **options})
    else:
        made = tuner()
    made.fit()
    trials = tune.ExperimentAnalysis(request["path"]).trials
    told = [
        [
            trial.trial_id,
            trial.config,
            trial.status,
            (trial.last_result or {}).get("training_iteration", 0),
            (trial.last_result or {}).get("version", 1),
        ]
        for trial in trials
    ]
    print("TOLD", json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
