"""The callback for XGBoost, whose base class needs XGBoost to be there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from milepost.tune.integration import reporting

_Base: Any = reporting.library("xgboost").callback.TrainingCallback


class TuneReportCheckpointCallback(_Base):  # type: ignore[misc]
    """Reports each iteration of XGBoost, some with a checkpoint.

    Pass an object of it to ``xgboost.train(callbacks=[...])`` inside a function trainable.

    Args:
        metrics: which metrics, under which names; all by default. They are named
            ``<evaluation set>-<metric>``.
        filename: the model's file in the checkpoint.
        frequency: a checkpoint every so many iterations; 0 for none.
        checkpoint_at_end: one more report, with a checkpoint, when training has ended, unless
            the last iteration had one.
        results_postprocessing_fn: ``metrics -> metrics``, applied before they are chosen.
    """

    def __init__(
        self,
        metrics: reporting.Metrics = None,
        filename: str = "model.ubj",
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: Callable[[dict[str, float]], dict[str, float]] | None = None,
    ) -> None:
        super().__init__()
        self._names = reporting.names_of(metrics)
        self._filename = filename
        self._frequency = frequency
        self._checkpoint_at_end = checkpoint_at_end
        self._postprocess = results_postprocessing_fn
        self._last_saved: int | None = None
        self._last_metrics: dict[str, Any] = {}

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, Any]) -> bool:
        """Report one iteration; called by XGBoost. False lets it go on."""
        self._last_metrics = self._metrics(evals_log)
        if self._frequency > 0 and (epoch + 1) % self._frequency == 0:
            self._last_saved = epoch
            self._report_with_model(model)
        else:
            reporting.report(dict(self._last_metrics))
        return False

    def after_training(self, model: Any) -> Any:
        """Report the final model; called by XGBoost."""
        if self._checkpoint_at_end and self._last_saved != model.num_boosted_rounds() - 1:
            self._report_with_model(model)
        return model

    def _report_with_model(self, model: Any) -> None:
        reporting.report_with_checkpoint(
            dict(self._last_metrics),
            lambda path: model.save_model(os.path.join(path, self._filename)),
        )

    def _metrics(self, evals_log: dict[str, Any]) -> dict[str, Any]:
        available = {
            f"{data_name}-{metric}": _last(values)
            for data_name, metrics in evals_log.items()
            for metric, values in metrics.items()
        }
        if self._postprocess is not None:
            available = self._postprocess(available)
        return reporting.chosen(self._names, available)

    @classmethod
    def get_model(cls, checkpoint: Any, filename: str = "model.ubj") -> Any:
        """Return the ``xgboost.Booster`` in a checkpoint."""
        booster = reporting.library("xgboost").Booster()
        with checkpoint.as_directory() as path:
            booster.load_model(os.path.join(path, filename))
        return booster


def _last(values: Any) -> Any:
    """The newest value of a metric; ``xgboost.cv`` keeps pairs of mean and deviation."""
    newest = values[-1]
    return newest[0] if isinstance(newest, tuple) else newest
