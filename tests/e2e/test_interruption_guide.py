"""The examples of ``docs/interruption.md``, as one script that is interrupted and run again."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[2] / "docs" / "interruption.md"

BEFORE = """
import json, os, signal, tempfile, threading
from milepost import tune

space = {"x": 1}

class Model:
    def train_one_batch(self):
        self.batch += 1
        if self.batch == 120 and "INTERRUPTED" in os.environ:
            print("TRAINING", flush=True)
            pause = threading.Event()
            while not tune.get_context().should_checkpoint():
                pause.wait(0.005)
        return 1 / self.batch

def load(checkpoint):
    model = Model()
    model.batch = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory, open(f"{directory}/batch") as file:
            model.batch = int(file.read())
    return model, model.batch

def save(model, step):
    assert step == model.batch
    directory = tempfile.mkdtemp()
    with open(f"{directory}/batch", "w") as file:
        file.write(str(step))
    return tune.Checkpoint.from_directory(directory)
"""


def test_the_examples(place: Any) -> None:
    """Trials save at the signal, and the same script goes on where they were."""
    train, main = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    train = train.replace("1_000_000", "200").replace("10_000", "50")
    last = "print('DONE', [r.metrics['step'] for r in grid], grid.num_errors)\n"
    script = place.write("# the guide\n")
    script.write_text(BEFORE + train + main + last)
    place.env["INTERRUPTED"] = "1"
    process = place.start(str(script))
    assert process.stdout is not None
    for line in process.stdout:
        if "TRAINING" in line:
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, out + err
    del place.env["INTERRUPTED"]
    assert "DONE [150] 0" in place.run(str(script))
    (result,) = place.experiments()[0].glob("*/progress.csv")
    steps = [line.split(",")[1] for line in result.read_text().splitlines()]
    assert steps == ["step", "0", "50", "100", "119", "150"]


def test_every_setting_is_explained() -> None:
    """The guide names what the code reads."""
    text = GUIDE.read_text()
    for name in (
        "MILEPOST_GRACE_S",
        "TUNE_DISABLE_SIGINT_HANDLER",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE",
    ):
        assert f"`{name}" in text
