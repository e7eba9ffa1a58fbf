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

    One that takes any keyword stays as it is. A constructor knows the arguments of those of the
    object's other classes, which hand on to it what they do not take themselves.

    Raises:
        TypeError: by the returned function, for an unknown keyword.
    """
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    known = _named(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise _unexpected(function, name, args)
        return function(*args, **kwargs)

    return call


def _named(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that can be given by name."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.name != "self"]


def _unexpected(function: Callable[..., Any], name: str, args: tuple[Any, ...]) -> TypeError:
    shown, known = function.__qualname__, _named(function)
    if function.__name__ == "__init__":
        shown = type(args[0]).__name__
        made_by = [vars(each).get("__init__") for each in type(args[0]).__mro__]
        known = [each for made in filter(inspect.isfunction, made_by) for each in _named(made)]
    return TypeError(
        f"{shown}() got an unexpected keyword argument {name!r}." + did_you_mean(name, known)
    )


class Spelled:
    """A class whose subclasses are made by :func:`spelled` functions."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        made_by = vars(cls).get("__init__")
        if inspect.isfunction(made_by):
            cls.__init__ = spelled(made_by)  # type: ignore[method-assign]
