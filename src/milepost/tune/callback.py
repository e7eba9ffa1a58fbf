"""Hooks into a run, under Ray's module name."""

from __future__ import annotations

from milepost.api.callback import Callback

__all__ = ["Callback"]
