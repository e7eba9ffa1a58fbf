"""The interface between a run and its search, under Ray's module name."""

from __future__ import annotations

from milepost.api.search_algorithm import SearchAlgorithm, TrialSpec

__all__ = ["SearchAlgorithm", "TrialSpec"]
