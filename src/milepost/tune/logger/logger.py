"""The base of loggers, under Ray's module name."""

from __future__ import annotations

from milepost.api.callback import LoggerCallback
from milepost.tune.logger.pretty import pretty_print

__all__ = ["LoggerCallback", "pretty_print"]
