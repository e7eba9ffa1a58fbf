"""Loggers: what writes results for people and for other programs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.api.available import missing

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
_PARTS = ("csv", "json", "logger", "tensorboardx")

__all__ = [
    "CSVLoggerCallback",
    "JsonLoggerCallback",
    "LoggerCallback",
    "TBXLoggerCallback",
    "pretty_print",
]


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise missing(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
