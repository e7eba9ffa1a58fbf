"""Reports from LightGBM. Mirrors ``ray.tune.integration.lightgbm``."""

from __future__ import annotations

from typing import Any

from milepost.tune.integration import reporting
from milepost.tune.integration._lightgbm import ReportCallback

__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]


class TuneReportCheckpointCallback(ReportCallback):
    """Reports from a trial. Mirrors Ray's class; arguments are those of :class:`ReportCallback`.

    Pass an object of it to ``lightgbm.train(callbacks=[...])`` inside a function trainable.
    """

    _report = staticmethod(reporting.report)


class TuneReportCallback:
    """Not available any more."""

    def __new__(cls, *args: Any, **kwargs: Any) -> TuneReportCallback:
        """Raise ``DeprecationWarning``."""
        raise DeprecationWarning(
            "TuneReportCallback does not exist any more; use TuneReportCheckpointCallback("
            "frequency=0, checkpoint_at_end=False)."
        )
