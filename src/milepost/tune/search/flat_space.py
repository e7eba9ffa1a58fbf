"""A search space under flat names, as other libraries want it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from milepost.api.spelling import did_you_mean
from milepost.tune.search.domains import Categorical, Domain
from milepost.tune.search.samplers import LogUniform, Normal, Quantized
from milepost.tune.search.space import Expression, Grid, Path, filled, variable_of, variables

logger = logging.getLogger("milepost.tune")

#: Values that every library takes as they are.
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Dimension:
    """One search variable.

    Attributes:
        name: its keys with slashes between: ``"model/layers"``.
        path: where it is in the space.
        domain: its values.
    """

    name: str
    path: Path
    domain: Domain

    @property
    def step(self) -> Any:
        """The step to whose multiples values are rounded; None when they are not."""
        sampler = self.domain.get_sampler()
        return sampler.q if isinstance(sampler, Quantized) else None

    @property
    def _inner(self) -> Any:
        sampler = self.domain.get_sampler()
        return sampler.get_sampler() if isinstance(sampler, Quantized) else sampler

    @property
    def is_log(self) -> bool:
        """Whether each order of magnitude is equally likely."""
        return isinstance(self._inner, LogUniform)

    @property
    def normal(self) -> Normal | None:
        """Mean and standard deviation of a normally distributed one."""
        return self._inner if isinstance(self._inner, Normal) else None

    def unsupported(self, library: str, advice: str = "") -> ValueError:
        """Return the error for a variable that a library cannot search."""
        return ValueError(
            f"{library} cannot search {self.name!r}: {self.domain!r} is nothing it knows."
            + (f" {advice}" if advice else "")
        )

    def require_flat_choice(self, library: str) -> None:
        """Make sure that the values of a choice have no variables of their own.

        Raises:
            ValueError: one has.
        """
        values = self.domain.categories if isinstance(self.domain, Categorical) else ()
        if any(next(variables(value), None) is not None for value in values):
            raise self.unsupported(
                library,
                "Search variables inside of a choice are for OptunaSearch and HyperOptSearch.",
            )

    def warn_of_dropped_step(self, library: str) -> None:
        """Tell that a step cannot be kept, if there is one."""
        if self.step is not None:
            logger.warning(
                "%s cannot round %r to multiples of %r; it is searched without.",
                library,
                self.name,
                self.step,
            )


class FlatSpace:
    """The variables of a Tune space by their flat names, and the way back.

    Functions of ``sample_from`` stay where they are: they are called when a trial is made.

    Args:
        space: the space; of its constants only those are kept that are asked for.
        library: who will search it, for messages.
        keeps_constants: whether suggestions hold the constants of the space as well.

    Raises:
        ValueError: it has a grid or an expression, a key has a slash in it, or two variables have
            one name.
    """

    def __init__(self, space: Mapping[str, Any], library: str, *, keeps_constants: bool) -> None:
        self._library = library
        self._template = dict(space) if keeps_constants else pruned(space)
        self.dimensions = {one.name: one for one in _dimensions(space, library)}

    def __len__(self) -> int:
        return len(self.dimensions)

    def suggestion(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by name as a configuration, nested like the space."""
        by_path = {self.dimensions[name].path: value for name, value in values.items()}
        config: dict[str, Any] = filled(self._template, by_path)
        return config

    def flat(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point by the names of its variables.

        Args:
            point: nested like the space or flat already; what it says of constants is left out.
        """
        for name, _ in self._leaves(point, ""):
            if name not in self.dimensions:
                logger.warning(
                    "The point %r has %r, which %s does not search; it is left out.%s",
                    dict(point),
                    name,
                    self._library,
                    did_you_mean(name, self.dimensions),
                )
        return self.known(point)

    def known(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same, and say nothing of what is left out."""
        return {name: value for name, value in self._leaves(point, "") if name in self.dimensions}

    def _leaves(self, value: Any, name: str) -> Iterator[tuple[str, Any]]:
        """Values by name, down to where the variables are; constants of the space are skipped."""
        if name in self.dimensions:
            yield name, value
            return
        members: Any = ()
        if isinstance(value, Mapping):
            members = value.items()
        elif isinstance(value, list | tuple):
            members = enumerate(value)
        if name and not self._leads_on(name):
            yield name, value
            return
        for key, member in members:
            yield from self._leaves(member, f"{name}/{key}" if name else str(key))

    def _leads_on(self, name: str) -> bool:
        return any(known.startswith(f"{name}/") for known in self.dimensions)


def pruned(space: Any) -> dict[str, Any]:
    """Return the part of a space that leads to its variables; lists are kept whole."""
    kept = {}
    for key, value in space.items():
        if next(variables(value), None) is None:
            continue
        nested = isinstance(value, dict) and variable_of(value, ()) is None
        kept[key] = pruned(value) if nested else value
    return kept


def position(categories: Any, value: Any) -> int | None:
    """Return which of several values one is; None if it is none of them."""
    for i, category in enumerate(categories):
        if category is value:
            return i
    for i, category in enumerate(categories):
        if type(category) is type(value) and _equal(category, value):
            return i
    for i, category in enumerate(categories):
        if _equal(category, value):
            return i
    return None


class Labels:
    """Short texts for the values of a ``tune.choice``, where a library takes only plain ones.

    Args:
        domain: what is chosen from.
        always: label plain values too.
    """

    def __init__(self, domain: Categorical, *, always: bool = False) -> None:
        self._values = domain.categories
        is_plain = all(type(value) in PLAIN for value in self._values)
        self._labels: list[str] | None = None
        if always or not is_plain:
            self._labels = [f"{i}: {_short(value)}" for i, value in enumerate(self._values)]

    @property
    def choices(self) -> list[Any]:
        """What the library chooses from."""
        return list(self._values) if self._labels is None else list(self._labels)

    def value(self, choice: Any) -> Any:
        """Return what a choice of the library stands for."""
        return choice if self._labels is None else self._values[self._labels.index(choice)]

    def choice(self, name: str, value: Any) -> Any:
        """Return the library's choice for a value.

        Raises:
            ValueError: it is none of the values.
        """
        at = position(self._values, value)
        if at is None:
            if self._labels and value in self._labels:
                return value  # as the library shows it
            raise ValueError(
                f"{value!r} is no value of {name!r}; it must be one of {list(self._values)!r}."
            )
        return self._values[at] if self._labels is None else self._labels[at]


def _dimensions(space: Any, library: str) -> Iterator[Dimension]:
    names: dict[str, Path] = {}
    for path, variable in variables(space):
        name = "/".join(map(str, path))
        if isinstance(variable, Grid):
            raise ValueError(
                f"{library} cannot search {name!r}: it is a grid. Use tune.choice for it, or "
                "leave the searcher out, and every combination is tried."
            )
        if isinstance(variable, Expression):
            raise ValueError(
                f"{library} cannot search {name!r}: it is an expression. Use tune.sample_from, "
                "which is called when the other values are known."
            )
        if variable.is_function():
            continue
        if any("/" in str(part) for part in path):
            raise ValueError(
                f"The key {next(p for p in path if '/' in str(p))!r} has a slash in it, which "
                f"separates the levels of a space for {library}. Rename it."
            )
        if name in names:
            raise ValueError(f"Two variables are called {name!r}: {names[name]} and {path}.")
        names[name] = path
        yield Dimension(name, path, variable)


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except ValueError:  # arrays compare element by element
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
