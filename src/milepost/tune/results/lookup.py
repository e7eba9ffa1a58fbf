"""Metrics by name, where ``a/b`` names a nested one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from milepost.api import fields
from milepost.api.nested import unflattened_lookup
from milepost.api.numbers import as_float

#: The fields that Milepost adds to every row; a user did not report them.
AUTO_FIELDS = frozenset(
    {*fields.AUTO_RESULT_KEYS, fields.DONE, fields.SHOULD_CHECKPOINT, fields.TRIAL_ID}
    | {fields.EXPERIMENT_TAG}
)


def lookup(row: Mapping[str, Any], name: str) -> Any:
    """Return the metric ``name`` of a row, literally or as a path; None when it is absent."""
    return unflattened_lookup(name, dict(row), default=None)


def score(value: Any) -> float | None:
    """Return a metric as a number to compare by; None when it is not one (NaN is one)."""
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        return as_float(value)
    except (TypeError, ValueError):
        return None


def is_comparable(value: float | None) -> TypeGuard[float]:
    """Tell whether a score can win: a number, neither NaN nor infinite."""
    return value is not None and math.isfinite(value)


def check_mode(mode: Any) -> str:
    """Return a valid ``mode``.

    Raises:
        ValueError: it is neither ``"min"`` nor ``"max"``.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
    return str(mode)
