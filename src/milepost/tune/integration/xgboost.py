"""Reports from XGBoost. Mirrors ``ray.tune.integration.xgboost``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.tune.integration._xgboost import TuneReportCheckpointCallback

__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]


def __getattr__(name: str) -> Any:
    if name == "TuneReportCheckpointCallback":
        from milepost.tune.integration import _xgboost

        globals()[name] = _xgboost.TuneReportCheckpointCallback
        return _xgboost.TuneReportCheckpointCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TuneReportCallback:
    """Not available any more."""

    def __new__(cls, *args: Any, **kwargs: Any) -> TuneReportCallback:
        """Raise ``DeprecationWarning``."""
        raise DeprecationWarning(
            "TuneReportCallback does not exist any more; use TuneReportCheckpointCallback("
            "frequency=0, checkpoint_at_end=False)."
        )
