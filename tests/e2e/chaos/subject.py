"""The experiment that is killed: twenty trials of three iterations, some of which fail.

Run as a script: ``subject.py <request>``, a JSON object with ``do`` ("fit" or "restore"),
``scenario``, the experiment's ``path`` for a restore, perhaps the ``storage_path``, and the
``number`` of the gate at which it waits.
"""

from __future__ import annotations

import json
import os
import pickle
import secrets
import signal
import sys
import tempfile
from typing import Any

import milepost
from chaos import books, gates, moments
from milepost import tune
from milepost.tune import Checkpoint
from milepost.tune.search import Searcher

TRIALS = 20
EPOCHS = 3
MAX_FAILURES = 2
ALWAYS_FAILS = 7
NAME = "exp"
OURS = "subject-"
"""How names of temporary directories begin that a killed trainable leaves behind."""

SCENARIOS = ("function", "class", "search", "reuse")


def score(x: int, epoch: int) -> float:
    """What is maximised; the best result is epoch 3 of x = 13."""
    return epoch * 100 - (x - 13) ** 2


def misfortune(x: int, epoch: int, trial: str) -> None:
    """Fail as some trials do: once by an exception, once by a signal, or always."""
    if x == ALWAYS_FAILS and epoch == 2:
        raise RuntimeError("this trial always fails")
    if x % 5 == 1 and epoch == 2 and books.only_once(f"raised-{trial}"):
        raise RuntimeError("this trial fails once")
    if x % 5 == 4 and epoch == 3 and books.only_once(f"killed-{trial}"):
        os.kill(os.getpid(), signal.SIGKILL)


def train(config: dict[str, Any]) -> None:
    """Save at each report."""
    trial, x = str(tune.get_context().get_trial_id()), config["x"]
    state = {"epoch": 0, "x": x}
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            state = _load(directory)
    assert state["x"] == x
    for epoch in range(state["epoch"] + 1, EPOCHS + 1):
        token = secrets.token_hex(4)
        books.note("begin", trial, x, epoch, token)
        gates.wait_at("inside")
        misfortune(x, epoch, trial)
        row = {"epoch": epoch, "score": score(x, epoch), "token": token}
        with tempfile.TemporaryDirectory(prefix=OURS) as directory:
            _save(directory, epoch, x)
            tune.report(row, checkpoint=Checkpoint.from_directory(directory))
        books.note("return", trial, x, epoch, token)


class Train(tune.Trainable):
    """The same as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.x, self.epoch = config["x"], 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        token = secrets.token_hex(4)
        books.note("begin", self.trial_id, self.x, self.epoch, token)
        misfortune(self.x, self.epoch, self.trial_id)
        row = {"epoch": self.epoch, "score": score(self.x, self.epoch), "token": token}
        return {**row, "done": self.epoch == EPOCHS}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        _save(checkpoint_dir, self.epoch, self.x)
        books.note("save", self.trial_id, self.x, self.epoch, "-")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        state = _load(checkpoint_dir)
        assert state["x"] == self.x
        self.epoch = state["epoch"]


class Counting(Searcher):
    """Proposes 0, 1, 2, ..., and learns what became of them."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self.proposed: dict[str, int] = {}
        self.learned: dict[str, float] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        books.kept["searcher"] = self
        self.proposed[trial_id] = len(self.proposed)
        return {"x": self.proposed[trial_id]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.learned[trial_id] = result["score"]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        assert trial_id in self.proposed

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "wb") as file:
            pickle.dump((self.proposed, self.learned), file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "rb") as file:
            self.proposed, self.learned = pickle.load(file)
        books.kept["searcher"] = self


class Hooks(tune.Callback):
    """Counts the hooks, and remembers how many results it was told of."""

    def __init__(self) -> None:
        self.results = 0

    def get_state(self) -> dict[str, Any]:
        return {"results": self.results}

    def set_state(self, state: dict[str, Any]) -> None:
        self.results = state["results"]

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        moments.reached("hook")

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        self.results += 1
        moments.reached("hook")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        moments.reached("hook")

    def on_checkpoint(
        self, iteration: int, trials: Any, trial: Any, checkpoint: Any, **info: Any
    ) -> None:
        moments.reached("hook")

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        moments.reached("hook")


def trainable(scenario: str) -> Any:
    """What runs in a scenario."""
    function = scenario in ("function", "search")
    return tune.with_resources(train if function else Train, {"cpu": 1})


def tuner(scenario: str, storage_path: str | None = None) -> tune.Tuner:
    """A new experiment of a scenario."""
    space = {"x": tune.grid_search(list(range(TRIALS)))}
    search = scenario == "search"
    return tune.Tuner(
        trainable(scenario),
        param_space={} if search else space,
        tune_config=tune.TuneConfig(
            num_samples=TRIALS if search else 1,
            search_alg=Counting() if search else None,
            max_concurrent_trials=4 if search else None,
            metric="score",
            mode="max",
            reuse_actors=scenario == "reuse",
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=storage_path,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=checkpoint_config(scenario),
            callbacks=[Hooks()],
        ),
    )


def checkpoint_config(scenario: str) -> tune.CheckpointConfig:
    """Keep all, the newest, or the best two."""
    if scenario == "search":
        return tune.CheckpointConfig(num_to_keep=1)
    if scenario == "reuse":
        return tune.CheckpointConfig(
            num_to_keep=2, checkpoint_score_attribute="score", checkpoint_frequency=1
        )
    return tune.CheckpointConfig(checkpoint_frequency=int(scenario == "class"))


def kept(scenario: str) -> list[int]:
    """The epochs whose checkpoints are there at the end of a trial that did not fail."""
    return {"search": [3], "reuse": [2, 3]}.get(scenario, [1, 2, 3])


def _save(directory: str, epoch: int, x: int) -> None:
    with open(os.path.join(directory, "state.json"), "w") as file:
        json.dump({"epoch": epoch, "x": x}, file)
    with open(os.path.join(directory, "weights.bin"), "wb") as file:
        file.write(bytes([x, epoch]) * 1000)


def _load(directory: str) -> dict[str, Any]:
    with open(os.path.join(directory, "state.json")) as file:
        state: dict[str, Any] = json.load(file)
    with open(os.path.join(directory, "weights.bin"), "rb") as file:
        assert file.read() == bytes([state["x"], state["epoch"]]) * 1000
    return state


def main(request: dict[str, Any]) -> None:
    """Run, and print what ``fit`` returned."""
    milepost.init(num_cpus=4)
    gates.wait_at(f"start-{request.get('number')}")
    scenario, path = request["scenario"], request["path"]
    if request["do"] == "restore" and tune.Tuner.can_restore(path):
        made = tune.Tuner.restore(path, trainable(scenario))
    else:
        made = tuner(scenario, request.get("storage_path"))
    grid = made.fit()
    best = grid.get_best_result()
    told = {
        "trials": [[r.config and r.config["x"], r.error and repr(r.error)] for r in grid],
        "best": [best.config and best.config["x"], best.metrics and best.metrics["score"]],
    }
    if scenario == "search":
        searcher = books.kept["searcher"]
        told["learned"] = sorted((searcher.proposed[t], s) for t, s in searcher.learned.items())
    print("TOLD", json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
