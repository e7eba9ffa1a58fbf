"""Very many trials of one result; run as a script, like :mod:`chaos.subject`.

The scenario is their number.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import milepost
from chaos import books, moments
from milepost import tune


def train(config: dict[str, Any]) -> None:
    """Report once."""
    books.note("begin", str(tune.get_context().get_trial_id()), config["x"], 1, "-")
    tune.report({"score": config["x"]})


class Hooks(tune.Callback):
    """Counts the trials that have ended."""

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        moments.reached("hook")


def main(request: dict[str, Any]) -> None:
    """Run, and print how many trials there are and the sum of their results."""
    milepost.init(num_cpus=2)
    if request["do"] == "restore":
        made = tune.Tuner.restore(request["path"], train)
    else:
        made = tune.Tuner(
            train,
            param_space={"x": tune.grid_search(list(range(int(request["scenario"]))))},
            tune_config=tune.TuneConfig(metric="score", mode="max", reuse_actors=True),
            run_config=tune.RunConfig(name="exp", verbose=0, callbacks=[Hooks()]),
        )
    grid = made.fit()
    scores = [result.metrics["score"] for result in grid if result.metrics]
    print("TOLD", json.dumps([len(grid), sum(scores), grid.get_best_result().metrics["score"]]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
