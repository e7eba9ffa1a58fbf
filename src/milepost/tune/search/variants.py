"""All configurations of one sample of a search space."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from milepost.api.spelling import did_you_mean
from milepost.tune.search.domains import Domain
from milepost.tune.search.expressions import (
    RecursiveDependencyError,
    UnresolvedValueError,
    evaluate,
)
from milepost.tune.search.samplers import RandomSource
from milepost.tune.search.space import Expression, Grid, Path, filled, variable_of, variables

logger = logging.getLogger("milepost.tune")


@dataclass(frozen=True, slots=True)
class Variant:
    """One configuration.

    Attributes:
        config: the configuration; functions of ``sample_from`` are still in it.
        resolved: the values of its variables by path.
    """

    config: Any
    resolved: dict[Path, Any]


def variants(
    space: Any, source: RandomSource, *, constant_grid_search: bool = False
) -> Iterator[Variant]:
    """Yield the configurations of one sample: one, or one per combination of its grids.

    Random variables are drawn in the order of the space, for each combination anew. Grids are
    combined in the order of their paths; the first one changes fastest. Chosen values that are
    spaces themselves are expanded in turn.

    Args:
        space: the search space.
        source: what random variables are drawn with.
        constant_grid_search: draw random variables once for all combinations.

    Raises:
        RecursiveDependencyError: expressions depend on each other in a circle.
        ValueError: a grid has no values, or an expression fails.
    """
    found = [(p, v) for p, v in variables(space) if not _waits(v)]
    if not found:
        yield Variant(filled(space, {}), {})
        return
    grids = sorted(
        ((path, v.values) for path, v in found if isinstance(v, Grid)), key=lambda g: path_key(g[0])
    )
    drawn = [(path, v) for path, v in found if not isinstance(v, Grid)]
    constants: dict[Path, Any] = {}
    if constant_grid_search:
        constants, drawn = _resolve(space, drawn, source, may_wait=bool(grids))
    # The last factor of a product changes fastest; the first grid shall.
    for combination in product(*(values for _, values in reversed(grids))):
        chosen = dict(zip([path for path, _ in grids], reversed(combination), strict=True))
        known = filled(space, {**constants, **chosen})
        values, _ = _resolve(known, drawn, source, may_wait=False)
        values = {**constants, **values, **chosen}
        for inner in variants(
            filled(space, values), source, constant_grid_search=constant_grid_search
        ):
            finals = {p: v for p, v in values.items() if not _is_space(v, p)}
            yield Variant(inner.config, {**finals, **inner.resolved})


def count(space: Any) -> int:
    """Return how many configurations a sample has, as far as known before choices are made."""
    number = 1
    for _, variable in variables(space):
        if isinstance(variable, Grid):
            number *= len(variable.values)
    return number


def shape(space: Any) -> list[Any]:
    """Return what decides how many configurations each sample of a space has, as plain values.

    That is its grids, and those in what is chosen; a position means the same in two spaces of the
    same shape.
    """
    found: list[Any] = []
    for path, variable in variables(space):
        values = getattr(variable, "values" if isinstance(variable, Grid) else "categories", ())
        inner = {number: part for number, v in enumerate(values) if (part := shape(v))}
        if inner or isinstance(variable, Grid):
            found.append((path_key(path), len(values), inner))
    return sorted(found, key=lambda each: each[0])


def finished(config: Any) -> Any:
    """Call the functions of ``sample_from``, in their order, and put their values in place.

    Each sees the configuration with every other variable and all earlier functions resolved. What
    one raises gets a note that names the variable.

    Raises:
        ValueError: a function returned one that comes later, as if it were its value.
    """
    found = [(path, v) for path, v in variables(config) if isinstance(v, Domain)]
    for place, (path, variable) in enumerate(found, 1):
        later = found[place:]
        try:
            value = variable.sample(config)
        except Exception as error:
            error.add_note(_whose(path, later))
            raise
        if any(value is other for _, other in later):
            raise ValueError(f"The value of another function was returned. {_whose(path, later)}")
        config = filled(config, {path: value})
    return config


def _whose(path: Path, later: list[tuple[Path, Domain]]) -> str:
    """What to know about a function of ``sample_from`` that failed."""
    text = f"This is the tune.sample_from() function of {_shown(path)!r} in the search space."
    if later:
        names = ", ".join(repr(_shown(other)) for other, _ in later)
        text += (
            f" Such functions are called in the order of the space, so that {names} had no value "
            "yet: to use one, put it first."
        )
    return text


def _shown(path: Path) -> str:
    return "/".join(map(str, path))


def with_preset(space: Any, preset: Mapping[str, Any]) -> Any:
    """Return a space with some of its values given, whether in their domain or not.

    Args:
        space: the search space.
        preset: nested like the space; what it leaves out stays a variable.

    Raises:
        KeyError: the space has no such key.
        ValueError: the space has no such position in a list.
    """
    return filled(space, dict(_preset_values(space, preset, ())))


def warn_of_outliers(space: Any, preset: Mapping[str, Any]) -> None:
    """Warn of values of a preset that are outside of their domain; they are used all the same."""
    for path, value in _preset_values(space, preset, ()):
        domain = _at(space, path)
        if isinstance(domain, Domain) and not _is_valid(domain, value):
            logger.warning(
                "The point to evaluate %r has %r for %r, outside of %s; it is used all the same.",
                preset,
                value,
                "/".join(map(str, path)),
                domain.domain_str,
            )


def path_key(path: Path) -> tuple[tuple[str, Any], ...]:
    """Sorts paths: by name, positions by number."""
    return tuple(
        ("", part) if isinstance(part, int) else (type(part).__name__, str(part)) for part in path
    )


def _waits(variable: Any) -> bool:
    """Functions are called last, when the trial is made."""
    return isinstance(variable, Domain) and variable.is_function()


def _is_space(value: Any, path: Path) -> bool:
    return any(not _waits(variable) for _, variable in variables(value, path))


def _resolve(
    space: Any, unresolved: list[tuple[Path, Any]], source: RandomSource, *, may_wait: bool
) -> tuple[dict[Path, Any], list[tuple[Path, Any]]]:
    """Draw domains and evaluate expressions, in order, until nothing changes any more."""
    values: dict[Path, Any] = {}
    waiting = unresolved
    while waiting:
        later = []
        for path, variable in waiting:
            if isinstance(variable, Expression):
                try:
                    values[path] = evaluate(variable.source, filled(space, values))
                except UnresolvedValueError:
                    later.append((path, variable))
            else:
                values[path] = variable.sample(random_state=source)
        if len(later) == len(waiting):
            if may_wait:
                break
            path, variable = later[0]
            raise RecursiveDependencyError(
                f"{_shown(path)!r} cannot be resolved: its expression "
                f"{variable.source!r} depends, in the end, on itself or on a sample_from value."
            )
        waiting = later
    return values, waiting


def _preset_values(space: Any, preset: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if variable_of(space, path) is not None:
        yield path, preset
    elif isinstance(preset, Mapping) and isinstance(space, dict):
        for key, value in preset.items():
            if key not in space:
                where = "/".join(map(str, (*path, key)))
                raise KeyError(
                    f"A point to evaluate has {where!r}, which is not in the search space."
                    + did_you_mean(key, map(str, space))
                )
            yield from _preset_values(space[key], value, (*path, key))
    elif isinstance(preset, list | tuple) and isinstance(space, list | tuple):
        if len(preset) > len(space):
            raise ValueError(
                f"A point to evaluate has {len(preset)} values for {_shown(path)!r}, "
                f"a list of {len(space)}: {preset!r}."
            )
        for i, value in enumerate(preset):
            yield from _preset_values(space[i], value, (*path, i))
    else:
        yield path, preset


def _at(space: Any, path: Path) -> Any:
    for part in path:
        space = space[part]
    return space


def _is_valid(domain: Domain, value: Any) -> bool:
    try:
        return domain.is_valid(value)
    except TypeError:  # not comparable with the domain's bounds
        return False
