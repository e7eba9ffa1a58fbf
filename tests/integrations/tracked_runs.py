"""What is run and tracked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from milepost import tune


def train(config: dict[str, Any]) -> None:
    """Count to ``steps`` with a checkpoint per step; fail once at ``fails_at``."""
    start = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            start = json.loads(Path(folder, "state.json").read_text())
    for step in range(start + 1, config.get("steps", 3) + 1):
        failed = Path("failed")
        if step == config.get("fails_at") and not (failed.exists() and config.get("once", True)):
            failed.touch()
            raise ValueError("broken")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps(step))
            tune.report(
                {"loss": config["lr"] / step, "valid": {"auc": step / 10}, "note": "text"},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


class Cut(tune.Callback):
    """Ends the driver at a trial's result, as a bug in it would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if result["training_iteration"] == self.at:
            raise RuntimeError("cut")
