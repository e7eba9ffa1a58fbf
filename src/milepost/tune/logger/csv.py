"""The logger of one kind of file, under Ray's module name."""

from __future__ import annotations

from milepost.tune.logger.files import CSVLoggerCallback

__all__ = ["CSVLoggerCallback"]
