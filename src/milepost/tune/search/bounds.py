"""Checks of what search variables are made from, where they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from milepost.api.checks import ArgumentError


def number(what: str, value: Any) -> Any:
    """Return a number as it is.

    Raises:
        TypeError: it is something else, such as text.
        ValueError: it is NaN.
    """
    if not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number, got {value!r} ({type(value).__name__}).")
    if math.isnan(value):
        raise ValueError(f"{what} must be a number, got {value!r}.")
    return value


def whole(what: str, value: Any) -> int:
    """Return a whole number, also one that is written as a float, as an ``int``.

    Raises:
        TypeError: it is something else, or has a fraction.
    """
    if hasattr(value, "__index__"):
        return int(value.__index__())
    if hasattr(value, "__float__") and float(value).is_integer():
        return int(value)
    raise TypeError(f"{what} must be a whole number, got {value!r} ({type(value).__name__}).")


def require_order(lower: float, upper: float) -> None:
    """Make sure that a range of floats holds at least one value.

    Raises:
        ValueError: it goes from high to low.
    """
    if lower > upper:
        raise ValueError(
            f"The lower bound {lower!r} is above the upper bound {upper!r}. Exchange them."
        )


def require_room(lower: int, upper: int) -> None:
    """Make sure that a range of whole numbers holds at least one, its upper bound excluded.

    Raises:
        ValueError: it is empty.
    """
    if lower >= upper:
        raise ValueError(
            f"There is no whole number from {lower!r} up to but not including {upper!r}: the lower "
            "bound must be below the upper one."
        )


def require_step(q: Any) -> None:
    """Make sure that a quantization step can be one.

    Raises:
        TypeError: it is no number.
        ValueError: it is not more than zero; also an ``AssertionError``, as Ray raises.
    """
    if not number("A quantization step", q) > 0:
        raise ArgumentError(f"A quantization step must be more than 0, got q={q!r}.")


def categories_of(values: Any) -> list[Any]:
    """Return the values to choose from as a list.

    Raises:
        TypeError: they are no list or the like.
        ValueError: there are none.
    """
    if not isinstance(values, Iterable):
        raise TypeError(
            f"tune.choice needs a list of values, got {values!r} ({type(values).__name__})."
        )
    categories = list(values)
    if not categories:
        raise ValueError(f"There is nothing to choose from: tune.choice({values!r}).")
    return categories


def grid_values(what: str, values: Any) -> Any:
    """Return the values of a grid: a list or the like as it is, an iterator as a list.

    Args:
        what: the grid, for messages.
        values: what a user gave.

    Raises:
        ValueError: they are no list or the like, or there are none.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{what} must be a list of values, got {values!r}.")
    if not isinstance(values, Sized):
        values = list(values)
    if not len(values):
        raise ValueError(f"{what} has no values, so there would be no trials.")
    return values
