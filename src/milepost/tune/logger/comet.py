"""The logger for Comet, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.comet import CometLoggerCallback

__all__ = ["CometLoggerCallback"]
