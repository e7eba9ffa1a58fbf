"""Resources of trials, under Ray's package name."""

from __future__ import annotations

from milepost.tune.execution import placement_groups

__all__ = ["placement_groups"]
