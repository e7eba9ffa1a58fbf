"""The logger of one kind of file, under Ray's module name."""

from __future__ import annotations

from milepost.tune.logger.files import TBXLoggerCallback

__all__ = ["TBXLoggerCallback"]
