"""Trainables and environments by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from milepost.api.spelling import did_you_mean
from milepost.errors import TuneError

logger = logging.getLogger("milepost.tune")

_trainables: dict[str, Any] = {}
_environments: dict[str, Callable[..., Any]] = {}


def register_trainable(name: str, trainable: Any, warn: bool = True) -> None:
    """Give a trainable a name under which ``Tuner`` and ``tune.run`` find it.

    Mirrors ``ray.tune.register_trainable``. The name is known in this process; registering it
    again replaces the trainable.

    Args:
        name: the name.
        trainable: a function that takes a config, or a ``Trainable`` class.
        warn: say so in the log when a name is taken over by another trainable.

    Raises:
        TypeError: it is neither, or the name is no string.
        ValueError: the function cannot be called with a config alone.
    """
    from milepost.tune.resolve import resolve

    if not isinstance(name, str):
        raise TypeError(f"A trainable is registered under a string, got {name!r}.")
    if isinstance(trainable, str) or not callable(trainable):
        raise TypeError(
            f"register_trainable({name!r}): a trainable must be a function that takes a config, or "
            f"a Trainable class, got {trainable!r} ({type(trainable).__name__})."
        )
    target = resolve(trainable)
    if warn and _trainables.get(name, target.trainable) is not target.trainable:
        logger.warning("The name %r now stands for %r.", name, target.trainable)
    _trainables[name] = target.trainable


def get_trainable(name: str) -> Any:
    """Return the trainable registered under a name.

    Raises:
        TuneError: there is none.
    """
    if name not in _trainables:
        hint = did_you_mean(name, _trainables) if _trainables else " No trainable is registered."
        raise TuneError(f"Unknown trainable: {name!r}.{hint} See tune.register_trainable.")
    return _trainables[name]


def is_registered(name: str) -> bool:
    """Whether a trainable is registered under a name."""
    return name in _trainables


def register_env(name: str, env_creator: Callable[..., Any]) -> None:
    """Give a function that makes environments a name. Mirrors ``ray.tune.register_env``.

    Args:
        name: the name.
        env_creator: takes a config and returns an environment.

    Raises:
        TypeError: it is no function.
    """
    if not callable(env_creator):
        raise TypeError(f"register_env({name!r}): expected a function, got {env_creator!r}.")
    _environments[name] = env_creator


def get_env(name: str) -> Callable[..., Any]:
    """Return the function registered under a name by :func:`register_env`.

    Raises:
        TuneError: there is none.
    """
    if name not in _environments:
        raise TuneError(
            f"Unknown environment: {name!r}."
            + (did_you_mean(name, _environments) if _environments else "")
            + " See tune.register_env."
        )
    return _environments[name]
