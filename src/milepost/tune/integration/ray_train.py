"""Reports from a trainer that runs inside a trial. Mirrors ``ray.tune.integration.ray_train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from milepost.api.training.callback import TrainRunContext, UserCallback
from milepost.tune.integration import reporting

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint

__all__ = ["TuneReportCallback"]

#: The metric that says where the trainer's checkpoint is.
CHECKPOINT_PATH_KEY = "checkpoint_path"


class TuneReportCallback(UserCallback):
    """Makes each report of a trainer one of the trial that it runs in.

    Give it to the trainer's ``RunConfig(callbacks=[TuneReportCallback()])`` in the function that
    ``Tuner.fit()`` runs. What the worker of rank 0 reports is reported to the tuner, and where its
    checkpoint is under ``"checkpoint_path"``; the checkpoint itself belongs to the training run.
    When the trial is to stop, the training run ends.

    Raises:
        RuntimeError: it is made outside a trial.
    """

    def __init__(self) -> None:
        from milepost.worker import session

        if not session.in_session():
            raise RuntimeError(
                "TuneReportCallback was made outside a tuning trial, so that there is nobody to "
                "report to. Make it, and the trainer, in the function that Tuner.fit() runs."
            )

        self._session = session.current_session()

    def __getstate__(self) -> dict[str, Any]:
        """It is of use in its own process only, and may be recorded all the same."""
        return {"_session": None}

    def after_report(
        self,
        run_context: TrainRunContext,
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        """Report what rank 0 has reported."""
        result = dict(metrics[0])
        if checkpoint is not None:
            result[CHECKPOINT_PATH_KEY] = checkpoint.path
        if self._session is not None:  # not that of a trainer that runs in the trial's process
            self._session.report(result)
        else:
            reporting.report(result)
