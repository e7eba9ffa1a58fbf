"""The training run that a golden experiment records: it is killed while it validates."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from milepost import train
from milepost.train import Checkpoint, DataParallelTrainer, RunConfig
from milepost.train import ValidationConfig as Validation
from milepost.train import ValidationTaskConfig as Task

CUT = "GOLDEN_CUT"
EPOCHS = 3


def loop() -> str:
    """Save each epoch, to be validated; with a checkpoint there is nothing to do."""
    if train.get_checkpoint() is not None:
        return "nothing to do"
    for epoch in range(EPOCHS):
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "epoch").write_text(str(epoch))
            checkpoint = Checkpoint.from_directory(directory)
            train.report({"epoch": epoch}, checkpoint=checkpoint, validation=True)
    return "done"


def validate(checkpoint: Checkpoint, scores: dict[int, complex]) -> dict[str, object]:
    """Look the epoch's score up; the second one kills the driver when the run is recorded."""
    with checkpoint.as_directory() as directory:
        epoch = int(Path(directory, "epoch").read_text())
    if epoch == 1 and CUT in os.environ:
        os.kill(int(os.environ[CUT]), signal.SIGKILL)
        signal.pause()
    return {"score": scores[epoch]}


def trainer(storage_path: str | None, name: str) -> DataParallelTrainer:
    """What is recorded, and goes on."""
    return DataParallelTrainer(
        loop,
        run_config=RunConfig(name=name, storage_path=storage_path, verbose=0),
        validation_config=Validation(validate, Task({"scores": {0: 1j, 1: 2j, 2: 3j}})),
    )


if __name__ == "__main__":
    import golden_training  # functions come from a module that can be imported again

    os.environ[CUT] = str(os.getpid())
    golden_training.trainer(None, sys.argv[2]).fit()
