"""When training waits for the driver at a report, and when it need not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from milepost import tune

AHEAD = """
import os, signal, tempfile
from milepost import tune


def train(config):
    os.kill(config["driver"], signal.SIGSTOP)
    try:
        for n in range(5):
            with tempfile.TemporaryDirectory() as directory:
                with open(os.path.join(directory, "n"), "w") as file:
                    file.write(str(n))
                saved = tune.Checkpoint.from_directory(directory) if n == 0 else None
                tune.report({"n": n}, checkpoint=saved)
    finally:
        os.kill(config["driver"], signal.SIGCONT)


(result,) = tune.Tuner(
    train, param_space={"driver": os.getpid()}, run_config=tune.RunConfig(verbose=0)
).fit()
print(result.error, list(result.metrics_dataframe["n"]), len(result.best_checkpoints))
"""


def test_training_does_not_wait_where_nobody_has_a_say(place: Any) -> None:
    """With neither stop condition, scheduler nor callback the answer is known beforehand.

    The driver stands still for as long as the trial reports.
    """
    assert place.script(AHEAD).splitlines()[-1] == "None [0, 1, 2, 3, 4] 1"


HOLES = """
import os, signal, sys, tempfile, threading
from milepost import tune


def train(config):
    begins = not os.path.exists(config["mark"])
    for n in range(6):
        if n == 1 and begins:
            os.kill(config["driver"], signal.SIGSTOP)
        if n == 3 and begins:
            open(config["mark"], "w").close()
            # Time enough to capture, for a report that does not wait as it has to.
            threading.Timer(0.5, os.kill, (config["driver"], signal.SIGKILL)).start()
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "n"), "w") as file:
                file.write(str(n))
            saved = tune.Checkpoint.from_directory(directory) if n == 3 else None
            if (checkpoint := tune.get_checkpoint()) is None or n > 3:
                tune.report({"n": n}, checkpoint=saved)


if sys.argv[1:] == ["restore"]:
    path = os.path.expanduser("~/milepost_results/exp")
    (result,) = tune.Tuner.restore(path, train).fit()
    print("ROWS", list(result.metrics_dataframe["n"]))
else:
    tune.Tuner(
        train,
        param_space={"driver": os.getpid(), "mark": os.path.abspath("mark")},
        run_config=tune.RunConfig(name="exp", verbose=0),
    ).fit()
"""


def test_no_checkpoint_is_newer_than_what_the_driver_knows(place: Any) -> None:
    """Results that a dead driver has not heard of are reported again, not skipped."""
    script = str(place.write(HOLES))
    place.run(script, code=-signal.SIGKILL)
    rows = place.run(script, "restore").splitlines()[-1]
    known = ("ROWS [0, 1, 2, 3, 4, 5]", "ROWS [0, 0, 1, 2, 3, 4, 5]")  # it may have heard of one
    assert rows in known, "what the driver knew, and all of it again"


class Noting(tune.Callback):
    """Notes of which result it was told last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.path.write_text(str(result["n"]))


@pytest.mark.parametrize("by", ["callback", "stopper"])
def test_whoever_is_told_is_told_before_training_goes_on(by: str, tmp_path: Path) -> None:
    """A report returns when stoppers and callbacks are done with it."""
    told = tmp_path / "told"

    def train(config: dict[str, Any]) -> None:
        for n in range(3):
            tune.report({"n": n})
            assert told.read_text() == str(n)

    def stop(trial_id: str, result: dict[str, Any]) -> bool:
        told.write_text(str(result["n"]))
        return False

    (result,) = tune.Tuner(
        train,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=[Noting(told)] if by == "callback" else None,
            stop=stop if by == "stopper" else None,
        ),
    ).fit()
    assert result.error is None


def test_a_burst_of_results_holds_up_nobody(tmp_path: Path) -> None:
    """The worker sends faster than it reads, and the driver says what it has all the same."""

    def train(config: dict[str, Any]) -> None:
        for n in range(5_000):
            tune.report({"n": n})

    run = tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    (result,) = tune.Tuner(train, run_config=run).fit()
    assert result.error is None
    assert list(result.metrics_dataframe["n"]) == list(range(5_000))
