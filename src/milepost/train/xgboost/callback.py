"""The callback for XGBoost in training workers."""

from __future__ import annotations

from milepost.train import reporting
from milepost.tune.integration._xgboost import ReportCallback


class RayTrainReportCallback(ReportCallback):
    """Reports each iteration from a training worker, some with a checkpoint. Mirrors Ray's class.

    Pass an object of it to ``xgboost.train(callbacks=[...])``, in all workers. The model that all
    have is saved by rank 0.

    Args:
        metrics: which metrics, under which names: a name, a list of them, or a dict
            ``{reported name: XGBoost's name}``; all by default. XGBoost's are
            ``<evaluation set>-<metric>``.
        filename: the model's file in the checkpoint; default ``"model.ubj"``.
        frequency: a checkpoint every so many iterations; 0 (the default) for none.
        checkpoint_at_end: one more report, with a checkpoint, when training has ended, unless the
            last one had the same model; default True.
        results_postprocessing_fn: ``metrics -> metrics``, applied before they are chosen.
    """

    _report = staticmethod(reporting.report)
