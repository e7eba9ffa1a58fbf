"""The runs that golden experiments record, as a user's module has them; see ``write.py``."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import milepost
from milepost import tune
from milepost.tune import Checkpoint
from milepost.tune.schedulers import TrialScheduler
from milepost.tune.search import Searcher
from milepost.tune.stopper import MaximumIterationStopper

EPOCHS = 3
CUT = "GOLDEN_CUT"


def cut(x: int, epoch: int) -> None:
    """Kill the driver where the recorded run is to end; a restored one goes on."""
    driver, where, status, times = os.environ.get(CUT, "0 never - 0").split()
    if where != f"{x}:{epoch}":
        return
    journal = Path("..", ".milepost", "journal", "00000001.jsonl")
    while journal.read_text().count(f'"status":"{status}"') < int(times):
        time.sleep(0.01)  # for the keeper, which others wait for
    os.kill(int(driver), signal.SIGKILL)
    signal.pause()


def write(directory: str, x: int, epoch: int) -> None:
    """Save the state of a training."""
    with open(os.path.join(directory, "state.json"), "w") as file:
        json.dump({"x": x, "epoch": epoch}, file)


def read(directory: str) -> dict[str, int]:
    """Load what :func:`write` saved."""
    with open(os.path.join(directory, "state.json")) as file:
        state: dict[str, int] = json.load(file)
    return state


def train(config: dict[str, Any]) -> None:
    """A function that saves with each report; the trial x = 1 fails for good."""
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            start = read(directory)["epoch"]
    for epoch in range(start + 1, EPOCHS + 1):
        cut(config["x"], epoch)
        if config["x"] == 1 and epoch == 2:
            raise RuntimeError("this trial always fails")
        with tempfile.TemporaryDirectory() as directory:
            write(directory, config["x"], epoch)
            tune.report(
                {
                    "epoch": epoch,
                    "score": config["x"] * 10 + epoch,
                    "nested": {"shape": (3, epoch)},
                },
                checkpoint=Checkpoint.from_directory(directory),
            )
        tune.get_checkpoint()  # waits for the commit, so that the recorded run is always the same


class Train(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.epoch = 0

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        cut(self.config["x"], self.epoch)
        if self.config["x"] == 1 and self.epoch == 2:
            raise RuntimeError("this trial always fails")
        return {
            "epoch": self.epoch,
            "score": self.config["x"] * 10 + self.epoch,
            "done": self.epoch == EPOCHS,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        write(checkpoint_dir, self.config["x"], self.epoch)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.epoch = read(checkpoint_dir)["epoch"]


class Next(Searcher):
    """Proposes 0, 1, 2, ... and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self.seen: dict[str, float] = {}
        self.count = 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.count += 1
        return {"x": self.count - 1}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.seen[trial_id] = result["score"] if result else float("nan")

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "wb") as file:
            pickle.dump((self.seen, self.count), file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "rb") as file:
            self.seen, self.count = pickle.load(file)


class Counter(tune.Callback):
    """A callback with a state."""

    def __init__(self) -> None:
        self.results = 0

    def get_state(self) -> dict[str, Any]:
        return {"results": self.results}

    def set_state(self, state: dict[str, Any]) -> None:
        self.results = state["results"]

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        self.results += 1


class PauseOnce(TrialScheduler):
    """Pauses all trials but one after their first result, until all others had their turn."""

    def __init__(self) -> None:
        self.paused: list[str] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id in self.paused or trial.config["x"] == 3:
            return self.CONTINUE
        self.paused.append(trial.trial_id)
        return self.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for status in ("PENDING", "PAUSED"):
            for trial in tune_controller.get_trials():
                if trial.status == status:
                    return trial
        return None


def tuner(
    trainable: Any,
    space: dict[str, Any],
    *,
    keep: int | None = None,
    frequency: int = 0,
    max_failures: int = 0,
    run: dict[str, Any] | None = None,
    **search: Any,
) -> tune.Tuner:
    """A new experiment in the default storage path."""
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(metric="score", mode="max", **search),
        run_config=tune.RunConfig(
            name="experiment",
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=keep, checkpoint_frequency=frequency
            ),
            **(run or {}),
        ),
    )


def grid(trials: int) -> dict[str, Any]:
    """A space of so many trials."""
    return {"x": tune.grid_search(list(range(trials))), "names": ("a", "b")}


#: What is recorded, and at which x and epoch it is cut, when a status has been recorded so often.
#: One trial runs at a time.
CASES: dict[str, tuple[str, Callable[[], tune.Tuner]]] = {
    "finished": ("never - 0", lambda: tuner(train, grid(3))),
    "function": ("2:2 ERROR 1", lambda: tuner(train, grid(5))),
    "class": (
        "3:3 TERMINATED 2",
        lambda: tuner(Train, grid(5), keep=2, frequency=1, max_failures=1),
    ),
    "search": (
        "3:2 TERMINATED 2",
        lambda: tuner(
            train,
            {},
            num_samples=6,
            search_alg=Next(),
            run={"callbacks": [Counter()], "stop": MaximumIterationStopper(EPOCHS)},
        ),
    ),
    "paused": (
        "3:2 PAUSED 2",
        lambda: tuner(train, {"x": tune.grid_search([0, 2, 3])}, scheduler=PauseOnce()),
    ),
}
XS = {
    "finished": [0, 1, 2],
    "function": [0, 1, 2, 3, 4],
    "class": [0, 1, 2, 3, 4],
    "search": [0, 1, 2, 3, 4, 5],
    "paused": [0, 2, 3],
}


def trainable(case: str) -> Any:
    """What runs in a case."""
    return Train if case == "class" else train


def record(case: str) -> None:
    """Run one, up to where it is cut."""
    where, made = CASES[case]
    os.environ[CUT] = f"{os.getpid()} {where}"
    milepost.init(num_cpus=1)
    made().fit()


def go_on(case: str, path: str) -> None:
    """Restore one and run it to its end."""
    milepost.init(num_cpus=1)
    tuner = tune.Tuner.restore(path, trainable(case))
    grid = tuner.fit()
    told = [[r.config["x"], r.error is None, (r.metrics or {}).get("score")] for r in grid]
    print("TOLD", json.dumps(sorted(told)))


if __name__ == "__main__":
    import golden_run  # users' classes come from a module that can be imported again

    {"record": golden_run.record, "go on": golden_run.go_on}[sys.argv[1]](*sys.argv[2:])
