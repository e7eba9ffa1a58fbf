"""Validations of runs that are killed or interrupted: what was pending is done by the next run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from milepost.journal import replay
from milepost.train import Result

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = sorted(GOLDEN.glob("training-v*"))

sys.path.insert(0, str(GOLDEN))

import golden_training  # noqa: E402

SCRIPT = """
import os, sys, tempfile, threading
from milepost import train
from milepost.train import (
    Checkpoint, CheckpointConfig, DataParallelTrainer, RunConfig, ValidationConfig,
    ValidationTaskConfig,
)


def train_fn(config):
    if train.get_checkpoint() is not None:
        return "nothing to do"
    for step in range(3):
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "step"), "w") as file:
                file.write(str(step))
            checkpoint = Checkpoint.from_directory(directory)
            train.report({"step": step}, checkpoint=checkpoint, validation=True)
    if config["waits"]:
        found = train.get_all_reported_checkpoints()
        print("WAITED", [each.status.name for each in found], flush=True)
        train.report({"step": 3})


def validate(checkpoint, hangs, plus):
    with checkpoint.as_directory() as directory:
        step = int(open(os.path.join(directory, "step")).read())
    print("VALIDATING", step, flush=True)
    if hangs == step and not os.path.exists("again"):
        threading.Event().wait()
    return {"score": step + plus}


if __name__ == "__main__":
    again = os.path.exists("again")
    trainer = DataParallelTrainer(
        train_fn,
        train_loop_config={"waits": "waits" in sys.argv},
        run_config=RunConfig(name="run", checkpoint_config=CheckpointConfig(num_to_keep=1)),
        validation_config=ValidationConfig(
            validate, ValidationTaskConfig({"hangs": 1, "plus": 100 if again else 0})
        ),
    )
    if "restore" in sys.argv:
        trainer = DataParallelTrainer.restore(trainer.storage_path + "/run")
    elif "without" in sys.argv:
        trainer.validation_config = None
    result = trainer.fit()
    print("SCORE", result.metrics["score"], flush=True)
"""


def cut(place: Any, signum: signal.Signals, *arguments: str) -> tuple[str, str]:
    """Run the script until its second validation hangs, and end it then; return its output."""
    script = str(place.write(SCRIPT))
    process = place.start(script, *arguments)
    said = ""
    while "VALIDATING 1" not in said:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        said += line
    os.kill(process.pid, signum)
    rest, errors = process.communicate(timeout=100)
    assert process.returncode == -signum, errors
    assert not place.wait_until_gone()
    run = Path(place.home, "milepost_results", "run")
    assert {path.name[-1] for path in run.glob("checkpoint_*")} >= {"1", "2"}
    Path(place.path, "again").touch()
    return said + rest, errors


def go_on(place: Any, *arguments: str) -> None:
    """The next run validates the rest with what was asked for then, and keeps what it has to."""
    said = place.run(str(place.path / "script.py"), *arguments)
    assert "VALIDATING 0" not in said
    assert said.index("VALIDATING 1") < said.index("VALIDATING 2")
    assert "SCORE 2" in said
    run = Path(place.home, "milepost_results", "run")
    assert sorted(path.name[-1] for path in run.glob("checkpoint_*")) == ["2"]


def test_killed(place: Any) -> None:
    """A run whose driver is killed while it validates."""
    cut(place, signal.SIGKILL)
    go_on(place)


@pytest.mark.chaos
def test_restored(place: Any) -> None:
    """The record has the function too; without one nothing goes on in silence."""
    cut(place, signal.SIGKILL)
    script = str(place.path / "script.py")
    process = place.start(script, "without")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Give the trainer a validation_config" in errors
    go_on(place, "restore")


@pytest.mark.chaos
@pytest.mark.parametrize("waits", [False, True])
def test_interrupted(place: Any, waits: bool) -> None:
    """Ctrl-C cancels what is under way; who waits for validations waits no longer."""
    said, errors = cut(place, signal.SIGINT, *(["waits"] if waits else []))
    assert "has failed" not in errors
    statuses = ["VALIDATED", "PENDING_VALIDATION", "PENDING_VALIDATION"]
    assert waits == (f"WAITED {statuses[1:]}" in said)
    if not waits:
        go_on(place)


@pytest.mark.chaos
def test_a_driver_that_never_heard_of_it(place: Any) -> None:
    """What was captured with the report is enough: the checkpoint says how it is validated."""
    stopped = SCRIPT.replace(
        "            checkpoint = Checkpoint",
        "            os.kill(PID, 19)\n            checkpoint = Checkpoint",
    ).replace("validation=True)", "validation=True)\n            os.kill(PID, 9)")
    assert stopped.count("PID") == 2
    script = str(
        place.write(
            stopped.replace("PID", 'config["pid"]').replace(
                '{"waits"', '{"pid": os.getpid(), "waits"'
            )
        )
    )
    process = place.start(script)
    process.communicate(timeout=100)
    assert process.returncode == -9
    assert not place.wait_until_gone()
    assert "SCORE 0" in place.run(script)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.name)
def test_golden(recorded: Path, tmp_path: Path) -> None:
    """What an earlier version left pending is read, and validated by this one."""
    run = Path(shutil.copytree(recorded, tmp_path / "run", symlinks=True))
    (trial,) = replay.image(str(run)).trials.values()
    assert [each.awaited is None for each in trial.committed.values()] == [True, False, False]
    assert [row.get("score") for _, row in Result.from_path(run).best_checkpoints] == [
        1j,
        None,
        None,
    ]
    result = golden_training.trainer(str(tmp_path), "run").fit()
    assert result.return_value == "nothing to do"
    assert [row["score"] for _, row in result.best_checkpoints] == [1j, 2j, 3j]
    assert result.metrics["score"] == 3j
