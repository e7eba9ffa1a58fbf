"""Expanding search spaces by hand, under Ray's module name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from milepost.tune.search.expressions import RecursiveDependencyError
from milepost.tune.search.primitives import grid_search
from milepost.tune.search.samplers import RandomSource
from milepost.tune.search.space import Path, has_unresolved_values
from milepost.tune.search.tags import format_vars
from milepost.tune.search.variants import finished, variants

if TYPE_CHECKING:
    from milepost.tune.search.samplers import RandomState

__all__ = [
    "RecursiveDependencyError",
    "format_vars",
    "generate_variants",
    "grid_search",
    "has_unresolved_values",
]


def generate_variants(
    unresolved_spec: dict[str, Any],
    constant_grid_search: bool = False,
    random_state: RandomState = None,
) -> Iterator[tuple[dict[Path, Any], dict[str, Any]]]:
    """Yield the configurations of one sample of a space, each with its variables by path.

    Args:
        unresolved_spec: the space; it is not changed.
        constant_grid_search: draw random variables once for all combinations of the grids.
        random_state: a NumPy generator or a seed; None draws from NumPy's global generator.

    Raises:
        RecursiveDependencyError: expressions depend on each other in a circle.
        ValueError: a grid has no values, or an expression fails.
    """
    source = RandomSource(random_state)
    for variant in variants(unresolved_spec, source, constant_grid_search=constant_grid_search):
        yield variant.resolved, finished(variant.config)
