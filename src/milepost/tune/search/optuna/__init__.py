"""Search with Optuna."""

from __future__ import annotations

from milepost.tune.search.optuna.optuna_search import OptunaSearch

__all__ = ["OptunaSearch"]
