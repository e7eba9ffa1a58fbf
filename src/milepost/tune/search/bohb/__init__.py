"""Search with the model of BOHB, together with the scheduler HyperBandForBOHB."""

from __future__ import annotations

from milepost.tune.search.bohb.bohb_search import TuneBOHB

__all__ = ["TuneBOHB"]
