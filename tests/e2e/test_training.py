"""Training scripts as users run them: killed, interrupted, started again."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import os, sys, tempfile, threading
from milepost import train
from milepost.train import (
    Checkpoint, CheckpointUploadMode, DataParallelTrainer, FailureConfig, RunConfig, ScalingConfig
)


def train_fn(config):
    rank = train.get_context().get_world_rank()
    first = 0
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            first = int(open(os.path.join(directory, "step")).read())
    print("BEGINS", rank, first, flush=True)
    for step in range(first, config["steps"]):
        if config["waits"] == step:
            if rank == 0:
                print("WAITING", flush=True)
            while train.get_preemption_info() is None:
                threading.Event().wait(0.01)
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, f"rank-{rank}"), "w") as file:
                file.write(str(step))
            if rank == 0:
                with open(os.path.join(directory, "step"), "w") as file:
                    file.write(str(step + 1))
            saved = Checkpoint.from_directory(directory)
            train.report({"step": step}, checkpoint=saved, **config["options"])
            if config["dies"] == step and not config["options"]:
                train.collective.barrier()  # each has captured its part
            if config["dies"] == step and rank == 0:
                print("REPORTED", os.getpid(), flush=True)
                threading.Event().wait()
    return first


if __name__ == "__main__":
    steps, waits, dies = map(int, sys.argv[1:4])
    options = {"checkpoint_upload_mode": CheckpointUploadMode[mode] for mode in sys.argv[4:]}
    trainer = DataParallelTrainer(
        train_fn,
        train_loop_config={"steps": steps, "waits": waits, "dies": dies, "options": options},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name="run", failure_config=FailureConfig(max_failures=1)),
    )
    result = trainer.fit()
    print("RETURNED", result.return_value, result.metrics["step"], flush=True)
"""


def heard(process: Any, text: str) -> str:
    """What a script printed up to a word."""
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text} was never said:\n{said}\n{process.stderr.read()}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(place: Any, signum: signal.Signals) -> None:
    """All workers are told at the same step, save and stop; the same script goes on there."""
    script = str(place.write(SCRIPT))
    process = place.start(script, "5", "2", "-1")
    heard(process, "WAITING")
    os.kill(process.pid, signum)
    said, errors = process.communicate(timeout=100)
    assert process.returncode == (143 if signum is signal.SIGTERM else -signal.SIGINT), errors
    assert "RETURNED" not in said
    assert "DataParallelTrainer.restore(" in errors
    assert not place.wait_until_gone()
    run = Path(place.home, "milepost_results", "run")
    assert sorted(path.name for path in run.glob("checkpoint_*")) == [
        f"checkpoint_{number:06d}" for number in range(3)
    ]
    assert (run / "checkpoint_000002" / "rank-1").read_text() == "2"
    assert "RETURNED 3 4" in place.run(script, "5", "-1", "-1")


def test_killed(place: Any) -> None:
    """What was captured before the driver died is committed, and the same script goes on there."""
    script = str(place.write(SCRIPT))
    process = place.start(script, "4", "-1", "1")
    heard(process, "REPORTED")
    process.kill()
    process.communicate(timeout=100)
    assert not place.wait_until_gone()
    assert "RETURNED 2 3" in place.run(script, "4", "-1", "-1")


@pytest.mark.parametrize("victims", ["all", "worker"])
def test_killed_when_a_sync_report_has_returned(place: Any, victims: str) -> None:
    """Its checkpoint is there whatever is killed then, the keeper too; it is what goes on."""
    script = str(place.write(SCRIPT))
    process = place.start(script, "4", "-1", "1", "SYNC")
    worker = int(heard(process, "REPORTED").split()[-1])
    for pid in [worker] if victims == "worker" else [process.pid, *place.processes()]:
        with contextlib.suppress(ProcessLookupError):  # whoever had died of the driver's death
            os.kill(pid, signal.SIGKILL)
    run = Path(place.home, "milepost_results", "run")
    assert (run / "checkpoint_000001" / ".milepost.json").exists()
    said, errors = process.communicate(timeout=100)
    if victims == "all":
        assert not place.wait_until_gone()
        said = place.run(script, "4", "-1", "-1")
    assert "BEGINS 1 2" in said, errors
    assert "RETURNED 2 3" in said, errors
    assert sorted(path.name[-6:] for path in run.glob("checkpoint_*")) == [
        f"{number:06d}" for number in range(4)
    ]
