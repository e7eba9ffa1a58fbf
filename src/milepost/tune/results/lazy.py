"""Dataclass fields whose value is worked out when it is first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, overload

T = TypeVar("T")

_REQUIRED = object()


class Deferred(Generic[T]):
    """Stands for a value until somebody reads the field that holds it.

    Give it a module-level function and its arguments, so that an object with unread fields can
    still be pickled.
    """

    __slots__ = ("_arguments", "_load")

    def __init__(self, load: Callable[..., T], *arguments: Any) -> None:
        self._load = load
        self._arguments = arguments

    def value(self) -> T:
        """Work the value out."""
        return self._load(*self._arguments)


class LazyField(Generic[T]):
    """A dataclass field that accepts its value or a :class:`Deferred` one.

    The deferred value is worked out once. Two threads that read it at the same time may both do
    the work; both see an equal value.

    Args:
        default: the field's default; without one the constructor requires the field.
    """

    def __init__(self, default: Any = _REQUIRED) -> None:
        self._default = default
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, obj: None, owner: type) -> Any: ...

    @overload
    def __get__(self, obj: object, owner: type) -> T: ...

    def __get__(self, obj: object | None, owner: type) -> Any:
        if obj is None:  # dataclass asks for the default this way
            if self._default is _REQUIRED:
                raise AttributeError(f"field {self._name!r} of {owner.__name__} has no default")
            return self._default
        held = vars(obj)[self._name]
        if isinstance(held, Deferred):
            held = vars(obj)[self._name] = held.value()
        return cast(T, held)

    def __set__(self, obj: object, value: T | Deferred[T]) -> None:
        vars(obj)[self._name] = value
