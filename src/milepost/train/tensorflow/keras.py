"""Reports from Keras in training workers. Mirrors ``ray.train.tensorflow.keras``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.tensorflow.callback import ReportCheckpointCallback

__all__ = ["ReportCheckpointCallback"]

__getattr__, __dir__ = attributes(
    __name__, {"ReportCheckpointCallback": "milepost.train.tensorflow.callback"}
)
