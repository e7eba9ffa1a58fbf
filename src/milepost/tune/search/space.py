"""Search spaces: where the variables are, and how values are put in their place.

A space is never changed. Containers are copied when values are put in; everything else in it is
shared, so that large objects among the constants are not copied per trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from milepost.tune.search.bounds import grid_values
from milepost.tune.search.domains import Domain

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A variable of which every value is tried."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A variable that is computed from others: ``{"eval": "spec.config.a * 2"}``."""

    source: Any


Variable = Domain | Grid | Expression


def variable_of(value: Any, path: Path) -> Variable | None:
    """Return the variable that a value of a space stands for, or None for an ordinary value.

    Raises:
        ValueError: it is a grid without values.
    """
    if isinstance(value, Domain):
        if value.is_grid():
            return _grid(value.categories, path)  # type: ignore[attr-defined]
        return value
    if isinstance(value, dict) and len(value) == 1:
        if "grid_search" in value:
            return _grid(value["grid_search"], path)
        if "eval" in value:
            return Expression(value["eval"])
    return None


def _grid(values: Any, path: Path) -> Grid:
    return Grid(tuple(grid_values(f"The grid of {'/'.join(map(str, path))!r}", values)))


def variables(value: Any, path: Path = ()) -> Iterator[tuple[Path, Variable]]:
    """Yield every variable of a space with its path, in the order of the space.

    Raises:
        ValueError: a grid has no values.
    """
    variable = variable_of(value, path)
    if variable is not None:
        yield path, variable
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from variables(member, (*path, key))
    elif isinstance(value, list | tuple):
        for i, member in enumerate(value):
            yield from variables(member, (*path, i))


def has_unresolved_values(space: Any) -> bool:
    """Whether a space has variables that only a search can resolve.

    Functions of ``sample_from`` do not count: they are called for every trial.
    """
    return any(
        not (isinstance(variable, Domain) and variable.is_function())
        for _, variable in variables(space)
    )


def filled(value: Any, values: Mapping[Path, Any], path: Path = ()) -> Any:
    """Return a copy of a space with values at the given paths; other variables stay in it.

    Args:
        value: the space, or a part of it.
        values: by path.
        path: where ``value`` is in the space.
    """
    if path in values:
        return filled(values[path], {})
    if isinstance(value, Domain) or (values and variable_of(value, path) is not None):
        return value
    if isinstance(value, dict):
        return _like(value, {key: filled(v, values, (*path, key)) for key, v in value.items()})
    if isinstance(value, list | tuple):
        return _like(value, [filled(v, values, (*path, i)) for i, v in enumerate(value)])
    return value


def without(value: Any, drop: Callable[[Any], bool]) -> Any:
    """Return a copy of a space without the dict entries whose value ``drop`` refuses."""
    if isinstance(value, dict) and variable_of(value, ()) is None:
        return _like(value, {k: without(v, drop) for k, v in value.items() if not drop(v)})
    return value


def _like(original: Any, members: Any) -> Any:
    """A container of the same type as another one, with other members."""
    kind = type(original)
    if kind in (dict, list):
        return members
    if kind is tuple:
        return tuple(members)
    if hasattr(original, "_make"):  # a named tuple
        return kind._make(members)
    if isinstance(original, dict):
        copied = original.copy()
        copied.update(members)
        for gone in copied.keys() - members.keys():
            del copied[gone]
        return copied
    return kind(members)
