"""The interface of searchers, under Ray's module name."""

from __future__ import annotations

from milepost.api.searcher import Searcher

__all__ = ["Searcher"]
