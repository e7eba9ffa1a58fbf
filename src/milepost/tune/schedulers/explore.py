"""How population based training changes a config: every step of it, and nothing else."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from milepost.api.checks import ArgumentError
from milepost.api.spelling import closest
from milepost.errors import TuneError
from milepost.tune.search.domains import Domain
from milepost.tune.search.space import Expression, Grid, variable_of

Mutations = Mapping[Any, Any]
Path = tuple[Any, ...]


class Draws:
    """The random choices of a scheduler: generators of its own, whose state can be pickled.

    They begin from the global generators of ``random`` and NumPy, so that ``random.seed`` before a
    run reproduces its choices; from then on neither user code nor a restore changes them.

    Args:
        with_numpy: whether values are drawn from domains too.
    """

    def __init__(self, with_numpy: bool) -> None:
        seed = random.getrandbits(64)
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.numpy: Any = None
        if with_numpy:
            import numpy as np

            # NumPy's legacy generator pickles the same in all versions.
            self.numpy = np.random.RandomState(np.random.randint(2**31 - 1))

    def sample(self, mutation: Any) -> Any:
        """Draw a value from a domain, a list or a function."""
        if isinstance(mutation, Domain):
            return _plain(mutation.sample(None, random_state=self.numpy))
        if callable(mutation):
            return mutation()
        return self.random.choice(mutation)


def uses_numpy(mutations: Mutations) -> bool:
    """Whether a value is drawn from a domain somewhere."""
    return any(
        uses_numpy(value) if isinstance(value, Mapping) else isinstance(value, Domain)
        for value in mutations.values()
    )


def check(owner: str, mutations: Any) -> None:
    """Make sure that each hyper-parameter says how it is changed.

    Args:
        owner: the scheduler's name, for errors.
        mutations: what the user gave.

    Raises:
        TypeError: one is no domain, list, tuple, dict or function.
        ValueError: one is an empty list, a grid or an expression, or depends on the config
            (``tune.sample_from``).
    """
    if not isinstance(mutations, Mapping):
        raise TypeError(
            f"{owner}(hyperparam_mutations=...) must be a dict from hyper-parameter to domain, "
            f"list, function or dict, got {type(mutations).__name__}."
        )
    for key, value in mutations.items():
        variable = variable_of(value, (key,))
        if isinstance(variable, Grid):
            raise ValueError(
                f"{owner}: {key!r} is a grid, which is tried value by value. For values to choose "
                f"from give a list: {list(variable.values)!r}."
            )
        if isinstance(variable, Expression):
            raise ValueError(
                f"{owner}: {key!r} is an expression, {variable.source!r}. Give a domain such as "
                "tune.uniform(0, 1), a list, or a function without arguments."
            )
        if isinstance(value, Mapping):
            check(owner, value)
        elif isinstance(value, Domain):
            if value.is_function():
                raise ValueError(
                    f"{owner}: the mutation of {key!r} is a tune.sample_from(), which depends on "
                    "the rest of the config. Give a domain such as tune.uniform(0, 1), a list, or "
                    "a function without arguments."
                )
        elif isinstance(value, list | tuple):
            if not value:
                raise ValueError(f"{owner}: the mutation of {key!r} is an empty list.")
        elif not callable(value):
            raise TypeError(
                f"{owner}: the mutation of {key!r} must be a domain, list, tuple, dict or "
                f"function, got {value!r} ({type(value).__name__})."
            )


def misspelt(
    owner: str, mutations: Mutations, space: Mapping[Any, Any], prefix: str = ""
) -> Iterator[str]:
    """Yield a line for each hyper-parameter whose name is probably meant to be another one.

    Those that a space lacks are drawn, which is right where it is meant.

    Args:
        owner: the scheduler's name.
        mutations: what may change.
        space: where trials begin.
        prefix: where in the space this is.
    """
    others = [key for key in space if key not in mutations and isinstance(key, str)]
    for key, value in mutations.items():
        if key in space:
            inner = space[key]
            if isinstance(value, Mapping) and isinstance(inner, dict):
                yield from misspelt(owner, value, inner, f"{prefix}{key}/")
        elif (meant := closest(key, others)) is not None:
            yield (
                f"{owner} changes {f'{prefix}{key}'!r}, which param_space does not have: each "
                f"trial gets one that is drawn for it. Did you mean {meant!r}?"
            )


def fill(config: dict[str, Any], mutations: Mutations, draws: Draws) -> dict[str, Any]:
    """Draw hyper-parameters that a config lacks; it is changed, but no dict in it.

    Returns:
        What was drawn, by key.
    """
    drawn = {}
    for key, mutation in mutations.items():
        if key not in config:
            drawn[key] = config[key] = _drawn(mutation, draws)
        elif isinstance(mutation, Mapping) and isinstance(config[key], dict):
            nested = dict(config[key])
            if inner := fill(nested, mutation, draws):
                drawn[key], config[key] = inner, nested
    return drawn


def _drawn(mutation: Any, draws: Draws) -> Any:
    if isinstance(mutation, Mapping):
        return {key: _drawn(nested, draws) for key, nested in mutation.items()}
    return draws.sample(mutation)


def explored(
    config: Mapping[str, Any],
    mutations: Mutations,
    draws: Draws,
    *,
    resample_probability: float,
    factors: Sequence[float],
    custom: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return a changed copy of a config. Mirrors the rules of Ray's ``explore``.

    A value from a list moves to a neighbour, or is drawn anew; a number is multiplied by one of
    the factors, or drawn anew. It may leave the bounds of its domain. An int stays an int, a bool
    a bool. A value that is no number is drawn anew from its domain.

    Args:
        config: whose; it is not changed.
        mutations: how each hyper-parameter may change.
        draws: random choices.
        resample_probability: how often a value is drawn anew, 0 to 1.
        factors: what numbers are multiplied by.
        custom: changes the whole config after that, and returns it.

    Raises:
        AssertionError: ``custom`` returned None; it is a ``ValueError`` as well.
    """
    new = copy.deepcopy(dict(config))
    _change(new, mutations, draws, resample_probability, factors)
    if custom is None:
        return new
    changed = custom(new)
    if changed is None:
        raise ArgumentError(
            f"{getattr(custom, '__name__', custom)!s}, the custom_explore_fn, returned None. It "
            "must return the changed config."
        )
    return changed


def _change(
    config: dict[Any, Any],
    mutations: Mutations,
    draws: Draws,
    probability: float,
    factors: Sequence[float],
) -> None:
    for key, mutation in mutations.items():
        if key not in config:
            config[key] = _drawn(mutation, draws)
        elif isinstance(mutation, Mapping):
            if not isinstance(config[key], dict):
                raise TuneError(
                    f"hyperparam_mutations has a dict for {key!r}, and the config has "
                    f"{config[key]!r} there. Give a domain, a list or a function for it."
                )
            _change(config[key], mutation, draws, probability, factors)
        elif isinstance(mutation, list | tuple):
            config[key] = _moved(config[key], list(mutation), draws, probability)
        else:
            config[key] = _scaled(config[key], mutation, draws, probability, factors)


def _moved(value: Any, choices: list[Any], draws: Draws, probability: float) -> Any:
    if draws.random.random() < probability or value not in choices:
        return draws.random.choice(choices)
    place = choices.index(value) + draws.random.choice((-1, 1))
    return choices[min(max(place, 0), len(choices) - 1)]


def _scaled(
    value: Any, mutation: Any, draws: Draws, probability: float, factors: Sequence[float]
) -> Any:
    if draws.random.random() < probability or not isinstance(value, Real):
        return draws.sample(mutation)
    scaled: Any = value * draws.random.choice(factors)
    if isinstance(value, bool):
        return bool(scaled)
    return round(scaled) if isinstance(value, Integral) else scaled


def values_at(config: Any, mutations: Mutations, prefix: Path = ()) -> dict[Path, Any]:
    """Return the values of the hyper-parameters that change, by path."""
    found: dict[Path, Any] = {}
    for key, mutation in mutations.items():
        if not isinstance(config, Mapping) or key not in config:
            continue
        path = (*prefix, key)
        if isinstance(mutation, Mapping):
            found.update(values_at(config[key], mutation, path))
        else:
            found[path] = config[key]
    return found


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python value it stands for."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def as_text(value: Any) -> Any:
    """What stands in a line of JSON for a value that JSON lacks."""
    plain = _plain(value)
    return str(value) if plain is value else plain
