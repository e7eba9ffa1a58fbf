"""Reports from Keras, under Ray's module name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.tune.integration._keras import (
        TuneReportCheckpointCallback as ReportCheckpointCallback,
    )

__all__ = ["ReportCheckpointCallback"]


def __getattr__(name: str) -> Any:
    if name == "ReportCheckpointCallback":
        from milepost.tune.integration import keras

        return keras.TuneReportCheckpointCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
