"""Loggers: what writes results for people and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.api.callback import LoggerCallback
    from milepost.tune.logger.files import (
        CSVLoggerCallback,
        JsonLoggerCallback,
        TBXLoggerCallback,
    )
    from milepost.tune.logger.pretty import pretty_print

_ORIGIN = {
    "CSVLoggerCallback": "milepost.tune.logger.files",
    "JsonLoggerCallback": "milepost.tune.logger.files",
    "LoggerCallback": "milepost.api.callback",
    "TBXLoggerCallback": "milepost.tune.logger.files",
    "pretty_print": "milepost.tune.logger.pretty",
}
_PARTS = ("aim", "comet", "csv", "json", "logger", "mlflow", "tensorboardx", "wandb")

__all__ = [
    "CSVLoggerCallback",
    "JsonLoggerCallback",
    "LoggerCallback",
    "TBXLoggerCallback",
    "pretty_print",
]


__getattr__, __dir__ = attributes(__name__, _ORIGIN, _PARTS)
