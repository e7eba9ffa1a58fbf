"""The functions with which search spaces are written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from milepost.tune.search.bounds import grid_values, require_room
from milepost.tune.search.domains import Categorical, Float, Function, Integer


def warn_of_base(base: Any) -> None:
    """Warn when a base of a logarithm is given: the draw does not depend on it."""
    if base is not None:
        warnings.warn(
            f"base={base!r} has no effect on a log-uniform draw; leave it out.",
            DeprecationWarning,
            stacklevel=5,
        )


def uniform(lower: float, upper: float) -> Float:
    """A float, uniformly from ``lower`` up to but not including ``upper``.

    Raises:
        TypeError: a bound is no number.
        ValueError: ``lower`` is above ``upper``, or a bound is not finite.
    """
    return Float(lower, upper).uniform()


def quniform(lower: float, upper: float, q: float) -> Float:
    """A float, uniformly among the multiples of ``q`` from ``lower`` to ``upper``, both included.

    Raises:
        ValueError: a bound is no multiple of ``q``, or ``q`` is not more than 0.
    """
    return Float(lower, upper).uniform().quantized(q)


def loguniform(lower: float, upper: float, base: Any = None) -> Float:
    """A float between the bounds, each order of magnitude equally likely.

    Raises:
        ValueError: ``lower`` is not more than 0.
    """
    return Float(lower, upper).loguniform(base)


def qloguniform(lower: float, upper: float, q: float, base: Any = None) -> Float:
    """As :func:`loguniform`, rounded to multiples of ``q``.

    Raises:
        ValueError: ``lower`` is not more than 0, or a bound is no multiple of ``q``.
    """
    return Float(lower, upper).loguniform(base).quantized(q)


def choice(categories: Iterable[Any]) -> Categorical:
    """One of the given values, each equally likely.

    Raises:
        TypeError: it is no list or the like.
        ValueError: it is empty.
    """
    return Categorical(categories).uniform()


def randint(lower: int, upper: int) -> Integer:
    """A whole number, uniformly from ``lower`` up to but not including ``upper``.

    Raises:
        TypeError: a bound is no whole number.
        ValueError: there is no whole number between the bounds.
    """
    domain = Integer(lower, upper)
    require_room(domain.lower, domain.upper)
    return domain.uniform()


def lograndint(lower: int, upper: int, base: Any = None) -> Integer:
    """A whole number from ``lower`` up to but not including ``upper``, log-uniformly.

    Raises:
        TypeError: a bound is no whole number.
        ValueError: ``lower`` is not more than 0, or there is no whole number between the bounds.
    """
    domain = Integer(lower, upper)
    require_room(domain.lower, domain.upper)
    return domain.loguniform(base)


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """A multiple of ``q`` from ``lower`` to ``upper``, both included (``upper`` not for q=1).

    Raises:
        TypeError: a bound is no whole number.
        ValueError: there is no such multiple.
    """
    return Integer(lower, upper).uniform().quantized(q)


def qlograndint(lower: int, upper: int, q: int, base: Any = None) -> Integer:
    """As :func:`lograndint`, in multiples of ``q``, ``upper`` included (not for q=1).

    Raises:
        ValueError: ``lower`` is not more than 0.
    """
    return Integer(lower, upper).loguniform(base).quantized(q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Float:
    """A float, normally distributed around ``mean`` with standard deviation ``sd``.

    Raises:
        ValueError: ``sd`` is not more than 0.
    """
    return Float(None, None).normal(mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Float:
    """As :func:`randn`, rounded to multiples of ``q``."""
    return Float(None, None).normal(mean, sd).quantized(q)


def sample_from(func: Callable[..., Any]) -> Function:
    """Whatever a function returns; it may take the configuration with everything else resolved.

    Raises:
        TypeError: it cannot be called.
        ValueError: it needs more than one argument.
    """
    return Function(func)


def grid_search(values: Iterable[Any]) -> dict[str, Any]:
    """Every one of the given values; several grids make every combination.

    Raises:
        ValueError: it is no list or the like, or it is empty.
    """
    return {"grid_search": grid_values("A grid", values)}
