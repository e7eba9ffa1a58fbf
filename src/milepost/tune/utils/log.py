"""Levels of detail, under Ray's module name."""

from __future__ import annotations

from milepost.api.progress import Verbosity

__all__ = ["Verbosity"]
