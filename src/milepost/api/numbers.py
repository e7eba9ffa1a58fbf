"""Numbers of users, which may be larger than any float."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

_FLOAT_BITS = 1000


def as_float(number: SupportsFloat) -> float:
    """Return a number as a float; an integer that is too large for one is an infinity."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf  # type: ignore[operator]


def bounded(value: Any) -> Any:
    """Return a value; a float for an integer so large that its average or text may fail."""
    if type(value) is int and value.bit_length() > _FLOAT_BITS:
        return as_float(value)
    return value
