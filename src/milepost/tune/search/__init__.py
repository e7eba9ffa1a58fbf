"""What proposes configurations: spaces, random and grid search, and searchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.api.search_algorithm import SearchAlgorithm
    from milepost.api.searcher import Searcher
    from milepost.tune.search.basic_variant import BasicVariantGenerator
    from milepost.tune.search.concurrency_limiter import ConcurrencyLimiter
    from milepost.tune.search.create import create_searcher
    from milepost.tune.search.primitives import grid_search
    from milepost.tune.search.repeater import Repeater
    from milepost.tune.search.search_generator import SearchGenerator

_ORIGIN = {
    "BasicVariantGenerator": "milepost.tune.search.basic_variant",
    "ConcurrencyLimiter": "milepost.tune.search.concurrency_limiter",
    "Repeater": "milepost.tune.search.repeater",
    "SearchAlgorithm": "milepost.api.search_algorithm",
    "SearchGenerator": "milepost.tune.search.search_generator",
    "Searcher": "milepost.api.searcher",
    "create_searcher": "milepost.tune.search.create",
    "grid_search": "milepost.tune.search.primitives",
}
_PARTS = (
    "ax",
    "basic_variant",
    "bayesopt",
    "bohb",
    "concurrency_limiter",
    "hebo",
    "hyperopt",
    "nevergrad",
    "optuna",
    "repeater",
    "sample",
    "search_algorithm",
    "search_generator",
    "searcher",
    "variant_generator",
    "zoopt",
)

__all__ = [
    "BasicVariantGenerator",
    "ConcurrencyLimiter",
    "Repeater",
    "SearchAlgorithm",
    "SearchGenerator",
    "Searcher",
    "create_searcher",
    "grid_search",
]


__getattr__, __dir__ = attributes(__name__, _ORIGIN, _PARTS)
