"""Trials, under Ray's module name."""

from __future__ import annotations

from milepost.control.facade import Trial

__all__ = ["Trial"]
