"""The callback for XGBoost, whose base class needs XGBoost to be there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from milepost.tune.integration import reporting

_Base: Any = reporting.library("xgboost").callback.TrainingCallback


class ReportCallback(_Base):  # type: ignore[misc]
    """Reports each iteration of XGBoost, some with a checkpoint; subclasses say where to.

    Args:
        metrics: which metrics, under which names; all by default. They are named
            ``<evaluation set>-<metric>``.
        filename: the model's file in the checkpoint.
        frequency: a checkpoint every so many iterations; 0 for none.
        checkpoint_at_end: one more report, with a checkpoint, when training has ended, unless
            the last one had the same model.
        results_postprocessing_fn: ``metrics -> metrics``, applied before they are chosen.
    """

    _report: ClassVar[reporting.Report]

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
        self._saved_rounds: int | None = None
        self._last_metrics: dict[str, Any] = {}

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, Any]) -> bool:
        """Report one iteration; called by XGBoost. False lets it go on."""
        self._last_metrics = self._metrics(evals_log)
        if self._frequency > 0 and (epoch + 1) % self._frequency == 0:
            self._report_with_model(model)
        else:
            self._report(dict(self._last_metrics))
        return False

    def after_training(self, model: Any) -> Any:
        """Report the final model; called by XGBoost."""
        if self._checkpoint_at_end and self._saved_rounds != model.num_boosted_rounds():
            self._report_with_model(model)
        return model

    def _report_with_model(self, model: Any) -> None:
        # Not the iteration's number: that counts from 0 where training goes on with a model.
        self._saved_rounds = model.num_boosted_rounds()
        self._report(
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


class TuneReportCheckpointCallback(ReportCallback):
    """Reports from a trial. Mirrors Ray's class; arguments are those of :class:`ReportCallback`.

    Pass an object of it to ``xgboost.train(callbacks=[...])`` inside a function trainable.
    """

    _report = staticmethod(reporting.report)


def _last(values: Any) -> Any:
    """The newest value of a metric; ``xgboost.cv`` keeps pairs of mean and deviation."""
    newest = values[-1]
    return newest[0] if isinstance(newest, tuple) else newest
