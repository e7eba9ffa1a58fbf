"""The interface of stoppers, and the check of what ``RunConfig(stop=...)`` accepts."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from milepost.api.spelling import Spelled


class Stopper(Spelled, ABC):
    """Decides when trials, or the whole run, stop. Mirrors ``ray.tune.Stopper``.

    Stoppers are kept in the experiment's state, so they must pickle.
    """

    @abstractmethod
    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return True when this trial should stop after this result.

        Args:
            trial_id: the trial that reported.
            result: the whole row it reported, nested as reported.
        """
        raise NotImplementedError

    @abstractmethod
    def stop_all(self) -> bool:
        """Return True when the whole run should stop; polled all the time, so keep it cheap."""
        raise NotImplementedError


def check_stop(owner: str, name: str, value: Any) -> Any:
    """Return a stop condition unchanged when it is one, else raise.

    Args:
        owner: the config that holds the condition, for the message.
        name: the field that holds it, for the message.
        value: None, a dict ``metric -> threshold``, a function ``(trial_id, result) -> bool``, a
            :class:`Stopper`, or a list of stoppers.

    Raises:
        ValueError: it is none of these, a dict with a threshold that nothing can reach, or a
            function that cannot be called with a trial's id and a result.
    """
    where = f"{owner}.{name}"
    if value is None or isinstance(value, Stopper):
        return value
    if isinstance(value, Mapping):
        for metric, threshold in value.items():
            _check_criterion(where, metric, threshold)
        return value
    if isinstance(value, list | tuple):
        for i, member in enumerate(value):
            if not isinstance(member, Stopper):
                raise ValueError(
                    f"{where}[{i}] must be a Stopper, got {member!r}. A list holds only Stopper "
                    "objects; wrap a function in tune.stopper.FunctionStopper."
                )
        return value
    if isinstance(value, type) and issubclass(value, Stopper):
        raise ValueError(
            f"{where} must be a Stopper object, got the class {value.__name__}: "
            f"write {value.__name__}(...)."
        )
    if callable(value):
        if hasattr(value, "stop_all"):
            raise ValueError(
                f"{where} got {value!r}, which has stop_all() but does not derive from "
                "milepost.tune.Stopper. Derive from it, or pass a plain function."
            )
        require_stop_function(where, value)
        return value
    raise ValueError(
        f"{where} must be a dict of thresholds, a function (trial_id, result) -> bool, a Stopper "
        f"or a list of Stoppers, got {value!r} ({type(value).__name__})."
    )


def require_stop_function(where: str, function: Any) -> None:
    """Make sure that a function can be called with a trial's id and a result.

    Args:
        where: who got it, for the message.
        function: can be called with something.

    Raises:
        ValueError: it takes other arguments.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind("", {})
    except TypeError as error:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise ValueError(
            f"{where} needs a function (trial_id, result) -> bool, and {name}{signature} cannot be "
            f"called with these two: {error}."
        ) from None


def _check_criterion(where: str, metric: object, threshold: object) -> None:
    if not isinstance(metric, str):
        raise ValueError(f"{where} must have names of metrics as keys, got {metric!r}.")
    if isinstance(threshold, Mapping):
        inner = next(iter(threshold), "metric")
        raise ValueError(
            f"{where}[{metric!r}] must be a number, got {dict(threshold)!r}. A nested metric is "
            f"written with a slash: {{{f'{metric}/{inner}'!r}: ...}}."
        )
    if threshold is None or callable(threshold) or isinstance(threshold, list | tuple | set | str):
        raise ValueError(
            f"{where}[{metric!r}] must be a number that a result can reach, got {threshold!r}."
        )
    if isinstance(threshold, float) and math.isnan(threshold):
        raise ValueError(f"{where}[{metric!r}] is NaN, which no result can reach.")
