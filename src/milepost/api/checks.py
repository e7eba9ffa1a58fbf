"""Checks of single config values. Each names the config, the field and the value it refuses."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from milepost.api.config import FieldCheck
from milepost.api.spelling import did_you_mean

#: Default of fields that Ray keeps only to refuse them; assigning anything else raises.
DEPRECATED = "DEPRECATED"


class ArgumentError(ValueError, AssertionError):
    """An argument that cannot be used, in a place where Ray raises ``AssertionError``."""


def optional(check: FieldCheck) -> FieldCheck:
    """Accept None as well as what ``check`` accepts."""

    def checked(owner: str, name: str, value: Any) -> Any:
        return None if value is None else check(owner, name, value)

    return checked


def text(owner: str, name: str, value: Any) -> str:
    """Accept a non-empty string.

    Raises:
        TypeError: the value is not a string.
        ValueError: the string is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{owner}.{name} must be a string, got {_shown(value)}.")
    if not value:
        raise ValueError(f"{owner}.{name} must not be an empty string.")
    return value


def boolean(owner: str, name: str, value: Any) -> bool:
    """Accept a bool (also numpy's, and 0 and 1).

    Raises:
        TypeError: the value is something else, such as the string ``"false"``.
    """
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool_", "bool") or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{owner}.{name} must be True or False, got {_shown(value)}.")


def integer(
    *, at_least: int | None = None, but: int | None = None, meaning: str = ""
) -> FieldCheck:
    """Accept a whole number within bounds.

    Args:
        at_least: the smallest value that is accepted.
        but: one more value that is accepted, outside the bound (such as -1 for "no limit").
        meaning: appended to the error, says what to write instead.
    """

    def check(owner: str, name: str, value: Any) -> int:
        number = _whole(owner, name, value)
        if at_least is not None and number < at_least and number != but:
            allowed = f"at least {at_least}" + (f", or {but}" if but is not None else "")
            raise ValueError(f"{owner}.{name} must be {allowed}, got {value!r}.{meaning}")
        return number

    return check


def seconds(owner: str, name: str, value: Any) -> float | timedelta:
    """Accept a duration: a positive number of seconds, or a ``timedelta``.

    Raises:
        TypeError: it is neither.
        ValueError: it is zero, negative or NaN.
    """
    if isinstance(value, timedelta):
        length = value.total_seconds()
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(
            f"{owner}.{name} must be a number of seconds or a datetime.timedelta, "
            f"got {_shown(value)}."
        )
    else:
        length = float(value)
    if math.isnan(length) or length <= 0:
        raise ValueError(f"{owner}.{name} must be a positive number of seconds, got {value!r}.")
    return value  # type: ignore[no-any-return]


def delay(owner: str, name: str, value: Any) -> float:
    """Accept a duration that may be zero, in seconds or as a ``timedelta``; return its seconds.

    Raises:
        TypeError: it is neither.
        ValueError: it is negative or NaN.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(
            f"{owner}.{name} must be a number of seconds or a datetime.timedelta, "
            f"got {_shown(value)}."
        )
    if not float(value) >= 0:
        raise ValueError(f"{owner}.{name} must be a number of seconds, 0 or more, got {value!r}.")
    return float(value)


def one_of(*choices: str) -> FieldCheck:
    """Accept one of the given strings."""

    def check(owner: str, name: str, value: Any) -> str:
        if value not in choices:
            raise ValueError(
                f"{owner}.{name} must be {' or '.join(map(repr, choices))}, got {value!r}."
                + (did_you_mean(value, choices) if isinstance(value, str) else "")
            )
        return str(value)

    return check


def function(owner: str, name: str, value: Any) -> Callable[..., Any]:
    """Accept anything that can be called.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{owner}.{name} must be a function, got {_shown(value)}.")
    return value  # type: ignore[no-any-return]


def instance_of(kind: type, default: Callable[[], Any] | None = None) -> FieldCheck:
    """Accept an object of one class; None becomes ``default()`` where a default is given."""

    def check(owner: str, name: str, value: Any) -> Any:
        if value is None and default is not None:
            return default()
        if isinstance(value, kind):
            return value
        if isinstance(value, type) and issubclass(value, kind):
            raise TypeError(
                f"{owner}.{name} must be an object, got the class {value.__name__}: "
                f"write {value.__name__}(...)."
            )
        hint = f": write {kind.__name__}(**{value!r})" if isinstance(value, Mapping) else ""
        raise TypeError(f"{owner}.{name} must be a {kind.__name__}, got {_shown(value)}{hint}.")

    return check


def refused(advice: str, *unset: object) -> FieldCheck:
    """Raise ``DeprecationWarning`` for any value but the ones that mean "not set"."""

    def check(owner: str, name: str, value: Any) -> Any:
        if any(value is blank or value == blank for blank in unset):
            return value
        raise DeprecationWarning(f"{owner}.{name} has no effect any more (got {value!r}). {advice}")

    return check


def path_text(owner: str, name: str, value: Any) -> str:
    """Accept a string or path object; return it as text with forward slashes kept as they are.

    Raises:
        TypeError: it is not a path.
        ValueError: it is empty or holds a NUL character.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{owner}.{name} must be a path or a URI, got {_shown(value)}.")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{owner}.{name} must be text, got the bytes {path!r}.")
    if not path or "\0" in path:
        raise ValueError(f"{owner}.{name} must be a usable path, got {path!r}.")
    return path


def seed(owner: str, name: str, value: Any) -> int | None:
    """Accept the seed of a random generator, or None.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative.
    """
    return None if value is None else int(integer(at_least=0)(owner, name, value))


def require_numbers(owner: str, **arguments: Any) -> None:
    """Refuse arguments of a constructor that are no numbers; NaN and bounds are not looked at.

    Raises:
        TypeError: one is something else, such as the string ``"10"``.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not hasattr(value, "__float__"):
            raise TypeError(f"{owner}({name}=...) must be a number, got {_shown(value)}.")


def _whole(owner: str, name: str, value: Any) -> int:
    """An int from an int, a numpy integer or a float without fraction (as from a config file)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        return int(value.__index__())
    raise TypeError(f"{owner}.{name} must be a whole number, got {_shown(value)}.")


def _shown(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"
