"""The logger for Aim, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.aim import AimLoggerCallback

__all__ = ["AimLoggerCallback"]
