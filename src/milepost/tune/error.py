"""Errors of tuning, under Ray's module name."""

from __future__ import annotations

from milepost.errors import TuneError

__all__ = ["TuneError"]
