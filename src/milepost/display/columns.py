"""Which parameters and metrics of trials are worth a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from milepost.api.fields import (
    AUTO_RESULT_KEYS,
    DEBUG_METRICS,
    DONE,
    EPISODES_THIS_ITER,
    EXPERIMENT_TAG,
    ITERATIONS_SINCE_RESTORE,
    SHOULD_CHECKPOINT,
    TIMESTEPS_THIS_ITER,
)

#: Fields of a row that are no metrics of the user's.
AUTO_FIELDS = frozenset(AUTO_RESULT_KEYS) | {
    *DEBUG_METRICS,
    DONE,
    SHOULD_CHECKPOINT,
    EXPERIMENT_TAG,
    ITERATIONS_SINCE_RESTORE,
    TIMESTEPS_THIS_ITER,
    EPISODES_THIS_ITER,
    "hyperband_info",
    "perf",
}


def is_number(item: Any) -> TypeGuard[float]:
    """Tell whether a metric is a number (numpy's scalars too) that a column can show."""
    if isinstance(item, bool):
        return False
    return isinstance(item, int | float) or (
        type(item).__module__ == "numpy" and getattr(item, "ndim", None) == 0
    )


def metric_names(
    rows: Iterable[Mapping[str, Any]], *, first: str | None = None, limit: int = 4
) -> list[str]:
    """Return the metrics to show: ``first``, then others in the order they were reported.

    Args:
        rows: flat result rows.
        first: the metric that is optimised, if any; shown even before it was reported.
        limit: how many at most.
    """
    names = [first] if first else []
    for row in rows:
        for name, item in row.items():
            if len(names) >= limit:
                return names
            if name not in names and is_user_metric(name) and is_number(item):
                names.append(name)
    return names


def is_user_metric(name: str) -> bool:
    """Tell whether the user reported this field of a flat row, rather than Milepost adding it."""
    return name.partition("/")[0] not in AUTO_FIELDS


def parameter_names(searched: Iterable[Mapping[str, Any]], *, limit: int = 4) -> list[str]:
    """Return the searched parameters to show, in the order they appear.

    Args:
        searched: per trial, its searched variables by path.
        limit: how many at most.
    """
    names: list[str] = []
    for variables in searched:
        for name in variables:
            if len(names) >= limit:
                return names
            if name not in names:
                names.append(name)
    return names
