"""Checks of points to evaluate, for searchers over libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from milepost.tune.search.domains import Categorical, Domain, Integer
from milepost.tune.search.flat_space import FlatSpace, Labels

logger = logging.getLogger("milepost.tune")


Points = Iterable[Mapping[str, Any]]


def require_choices(space: FlatSpace, points: Points) -> None:
    """Make sure that values of points are among those to choose from.

    Args:
        space: what is searched.
        points: nested like the space or flat.

    Raises:
        ValueError: one is not.
    """
    for point in points:
        for name, value in space.known(point).items():
            domain = space.dimensions[name].domain
            if isinstance(domain, Categorical):
                Labels(domain, always=True).choice(name, value)


def require_values(space: FlatSpace, points: Points) -> None:
    """Make sure that each point has a value for each variable.

    Raises:
        ValueError: one has none.
    """
    for point in points:
        values = space.known(point)
        missing = [name for name in space.dimensions if name not in values]
        if missing:
            raise ValueError(f"The point {point!r} has no value for {', '.join(missing)}.")


def require_inside(space: FlatSpace, points: Points, library: str) -> None:
    """Make sure that numbers of points are within the bounds of their variables.

    Args:
        space: what is searched.
        points: nested like the space or flat.
        library: its name, for messages.

    Raises:
        ValueError: one is not.
    """
    for point in points:
        for name, value in space.known(point).items():
            domain = space.dimensions[name].domain
            if not isinstance(domain, Categorical) and not _holds(domain, value):
                raise ValueError(
                    f"The point to evaluate {dict(point)!r} has {value!r} for {name!r}, outside of "
                    f"{domain!r}, which {library} cannot take."
                )


def warn_of_outliers(space: FlatSpace, points: Points) -> None:
    """Warn of values that their variables would not have; they are used all the same."""
    for point in points:
        for name, value in space.known(point).items():
            domain = space.dimensions[name].domain
            if not isinstance(domain, Categorical) and not _is_valid(domain, value):
                warn_of_outlier(point, name, value, repr(domain))


def warn_of_outlier(point: Mapping[str, Any], name: str, value: Any, bounds: str) -> None:
    """Warn of one."""
    logger.warning(
        "The point to evaluate %r has %r for %r, outside of %s; it is used all the same.",
        dict(point),
        value,
        name,
        bounds,
    )


def _holds(domain: Domain, value: Any) -> bool:
    if not _is_valid(domain, value):
        return False
    # Libraries search whole numbers up to the one before the bound, which is not drawn.
    return not isinstance(domain, Integer) or (value < domain.upper and float(value).is_integer())


def _is_valid(domain: Domain, value: Any) -> bool:
    try:
        return domain.is_valid(value)
    except TypeError:  # not comparable with the bounds
        return False
