"""Values that are computed from other values of the same configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milepost.tune.search.space import variable_of


class RecursiveDependencyError(Exception):
    """Expressions of a search space depend on each other in a circle."""


class UnresolvedValueError(Exception):
    """A value was read that is not known yet."""


class AttributeView(dict[Any, Any]):
    """A configuration whose values are also attributes: ``spec.config.lr``.

    Raises:
        UnresolvedValueError: the value that is read is still a search variable.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if variable_of(value, (key,)) is not None:
            raise UnresolvedValueError(key)
        return AttributeView(value) if isinstance(value, Mapping) else value


def evaluate(source: Any, config: Any) -> Any:
    """Return the value of an expression such as ``spec.config.layers * 2``.

    Args:
        source: Python; it may use ``spec``, ``np`` and ``random``.
        config: what is known of the configuration.

    Raises:
        UnresolvedValueError: it reads a value that is not known yet.
        ValueError: it fails otherwise.
    """
    if not isinstance(source, str):
        return source
    import random

    import numpy as np

    names = {"spec": AttributeView({"config": config}), "np": np, "random": random}
    try:
        return eval(source, names)  # noqa: S307 - the user's own expression, like any other code
    except UnresolvedValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"The expression {source!r} of the search space failed: "
            f"{type(error).__name__}: {error}. It may use spec.config, np and random."
        ) from error
