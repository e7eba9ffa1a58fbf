"""The callback for LightGBM in training workers."""

from __future__ import annotations

from milepost.train import reporting
from milepost.tune.integration._lightgbm import ReportCallback


class RayTrainReportCallback(ReportCallback):
    """Reports each iteration from a training worker, some with a checkpoint. Mirrors Ray's class.

    Pass an object of it to ``lightgbm.train(callbacks=[...])``, in all workers. The model that all
    have is saved by rank 0.

    Args:
        metrics: which metrics, under which names: a name, a list of them, or a dict
            ``{reported name: LightGBM's name}``; all by default. LightGBM's are
            ``<data set>-<metric>``, those of ``lightgbm.cv`` with ``-mean`` and ``-stdv``.
        filename: the model's file in the checkpoint; default ``"model.txt"``.
        frequency: a checkpoint every so many iterations; 0 (the default) for none.
        checkpoint_at_end: also one with the last iteration; default True.
        results_postprocessing_fn: ``metrics -> metrics``, applied before they are chosen.
    """

    _report = staticmethod(reporting.report)
