"""The base of all config dataclasses: checked fields and misspelt names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, TypeVar

from milepost.api.spelling import did_you_mean

#: Checks one field's value and returns what is stored: ``check(owner, name, value) -> value``.
FieldCheck = Callable[[str, str, Any], Any]

C = TypeVar("C", bound="type[Config]")
K = TypeVar("K", bound="Config")

# Where a config remembers which fields were set by whoever made it.
_GIVEN = "_given"


class Config:
    """A config object whose fields hold only values that can take effect.

    Subclasses are dataclasses decorated with :func:`checked`. A value is checked when it is
    assigned, by the constructor or later, so an error always names the line that wrote it.
    """

    #: field name -> check; fields without one take any value.
    _checks: ClassVar[Mapping[str, FieldCheck]] = {}
    #: field name -> class, of those that are configs themselves.
    _parts: ClassVar[Mapping[str, type[Config]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        owner = type(self).__name__
        check = self._checks.get(name)
        if check is not None:
            value = check(owner, name, value)
        elif name not in self.__dataclass_fields__ and not name.startswith("__"):  # type: ignore[attr-defined]
            raise AttributeError(
                f"{owner} has no field {name!r}." + did_you_mean(name, _public_fields(type(self)))
            )
        super().__setattr__(name, value)
        given = vars(self).get(_GIVEN)
        if given is not None:  # the constructor is done
            vars(self)[_GIVEN] = given | {name}


def given_fields(config: Config) -> frozenset[str]:
    """Return the fields that were set by whoever made a config, be it to their defaults.

    A config from ``dataclasses.replace`` was made with every field, and of one of a user's own
    class that is not known; then those count that differ from their defaults.
    """
    entries = [f for f in fields(config) if f.init]  # type: ignore[arg-type]
    names = [f.name for f in entries]
    given: frozenset[str] | None = vars(config).get(_GIVEN)
    if given is not None and not given.issuperset(names):
        return given
    needed = [f.name for f in entries if f.default is MISSING and f.default_factory is MISSING]
    blank = type(config)(**{name: getattr(config, name) for name in needed})
    return frozenset(name for name in names if getattr(config, name) != getattr(blank, name))


def converted(config: Config, kind: type[K]) -> K:
    """Return a config as one of another class, with those of its fields that the class has.

    Fields that were not set have the defaults of the class. One that is of this class already is
    returned as it is.
    """
    if isinstance(config, kind):
        return config
    known = {f.name for f in fields(kind) if f.init}  # type: ignore[arg-type]
    return kind(**{name: getattr(config, name) for name in given_fields(config) & known})


def checked(cls: C) -> C:
    """Make the constructor of a config dataclass name the close match of an unknown argument.

    Args:
        cls: a dataclass that derives from :class:`Config`.

    Returns:
        The same class; its constructor raises ``TypeError`` with a suggestion for a misspelt field.
    """
    construct = cls.__init__
    order = [f.name for f in fields(cls) if f.init and not f.kw_only]  # type: ignore[arg-type]

    @functools.wraps(construct)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in cls.__dataclass_fields__:  # type: ignore[attr-defined]
                raise TypeError(
                    f"{cls.__name__}() got an unexpected keyword argument {name!r}."
                    + did_you_mean(name, _public_fields(cls))
                )
        construct(self, *args, **kwargs)
        vars(self)[_GIVEN] = frozenset((*order[: len(args)], *kwargs))

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def _public_fields(cls: type) -> list[str]:
    return [f.name for f in fields(cls) if not f.name.startswith("_")]
