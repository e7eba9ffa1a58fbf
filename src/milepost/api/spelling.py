"""Close matches for misspelt names, worded the same way in every error."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error message that helps with a misspelt name.

    Args:
        name: what the user wrote; anything but a string has no close match.
        known: the names that would have been accepted.

    Returns:
        `` Did you mean 'num_to_keep'?`` when one name is close, else
        `` It must be one of: ...`` with every accepted name. Both start with a space.
    """
    names = sorted(set(known))
    close = closest(name, names)
    if close is not None:
        return f" Did you mean {close!r}?"
    return f" It must be one of: {', '.join(names)}." if names else ""


def closest(name: object, known: Iterable[str]) -> str | None:
    """Return the one of several names that is like another one; None if none is.

    Args:
        name: what the user wrote; anything but a string is like none.
        known: the names.
    """
    if not isinstance(name, str):
        return None
    return next(iter(difflib.get_close_matches(name, sorted(set(known)), n=1)), None)


def spelled(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function name the close match of an argument that it does not have.

    One that takes any keyword stays as it is.

    Raises:
        TypeError: by the returned function, for an unknown keyword.
    """
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [p.name for p in parameters if p.kind in named and p.name != "self"]
    shown = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{shown}() got an unexpected keyword argument {name!r}."
                    + did_you_mean(name, known)
                )
        return function(*args, **kwargs)

    return call


class Spelled:
    """A class whose subclasses are made by :func:`spelled` functions."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        made_by = vars(cls).get("__init__")
        if inspect.isfunction(made_by):
            cls.__init__ = spelled(made_by)  # type: ignore[method-assign]
