"""Lines about single trials: started, reported, ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from milepost.api.callback import Callback
from milepost.display.format import duration
from milepost.display.picture import metrics, variables

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.control.facade import Trial
    from milepost.display.surface import Surface


class TrialLines(Callback):
    """Says which trials start, from where, and with what they end.

    Failures are not told here: the controller logs each, with its traceback.

    Args:
        surface: where the lines go.
        metric: the metric that is named first.
    """

    def __init__(self, surface: Surface, *, metric: str | None = None) -> None:
        self._surface = surface
        self._metric = metric

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say which parameters the trial has, or which checkpoint it goes on from."""
        checkpoint = trial.checkpoint
        if checkpoint is not None:
            self.say(f"Trial {trial} goes on from {os.path.basename(checkpoint.path)}")
            return
        given = variables(trial.evaluated_params)
        self.say(f"Trial {trial} started" + (f" with {given}" if given else ""))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say what the trial reported last."""
        self.say(f"Trial {trial} ended {_progress(trial.last_result, self._metric)}")

    def say(self, text: str) -> None:
        """Show one line."""
        self._surface.line(text)


class ResultLines(TrialLines):
    """Says also what each report held, and which checkpoints were committed."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Say what the trial reported."""
        self.say(f"Trial {trial} reported {_progress(result, self._metric)}")

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Say where the checkpoint is."""
        self.say(f"Trial {trial} has {os.path.basename(checkpoint.path)} in {trial.path}")


def _progress(row: dict[str, Any], metric: str | None) -> str:
    if "training_iteration" not in row:
        return "without a result"
    took = duration(float(row.get("time_total_s") or 0.0))
    told = metrics(row, first=metric)
    return f"at iteration {row['training_iteration']} ({took})" + (f": {told}" if told else "")
