"""What a user passed as trainable: a function or a class, and its name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from milepost.control.group import Group
from milepost.errors import TuneError
from milepost.tune.naming import trainable_name

if TYPE_CHECKING:
    from milepost.control.plan import ValidationPlan


@dataclass(frozen=True, slots=True)
class Target:
    """A trainable that can run.

    Attributes:
        trainable: the function (or callable) or the ``Trainable`` class.
        name: begins the names of its trials.
        kind: which of the two it is.
    """

    trainable: Any
    name: str
    kind: Literal["function", "class"]

    @property
    def group(self) -> Group | None:
        """What holds for its workers, if each bundle of what it asks for is for one of them."""
        found = getattr(self.trainable, "_group", None)
        return found if isinstance(found, Group) else None

    @property
    def validation(self) -> ValidationPlan | None:
        """How checkpoints of its trials are validated, if they are."""
        from milepost.api.training.validation_config import ValidationConfig
        from milepost.control.plan import ValidationPlan

        config = getattr(self.trainable, "_validation", None)
        if not isinstance(config, ValidationConfig):
            return None
        return ValidationPlan(config.fn, config.resources)


def resolve(trainable: Any) -> Target:
    """Return what to run for whatever a user passed as trainable.

    Args:
        trainable: a function, partial or other callable that takes one positional ``config``; a
            ``Trainable`` class; the name of a registered one; an object with ``as_trainable()``;
            or what this function has returned.

    Raises:
        TuneError: it is missing, or a name that is not registered.
        TypeError: it is no callable, or a class that is no ``Trainable``.
        ValueError: the function cannot be called with one positional argument.
    """
    if trainable is None or (isinstance(trainable, str | dict | list | tuple) and not trainable):
        raise TuneError(
            "You need to provide a trainable: a function that takes a config, a Trainable class, "
            f"or the name of a registered one; got {trainable!r}."
        )
    if isinstance(trainable, Target):
        return trainable
    name = trainable if isinstance(trainable, str) else ""
    if isinstance(trainable, str):
        trainable = _registered(trainable)
    if not isinstance(trainable, type) and hasattr(trainable, "as_trainable"):
        trainable, name = trainable.as_trainable(), ""
    name = name or trainable_name(trainable)
    if isinstance(trainable, type):
        _require_trainable_class(trainable)
        return Target(trainable, name, "class")
    if not callable(trainable):
        raise TypeError(
            "A trainable must be a function that takes a config, a Trainable class, or the name "
            f"of a registered one; got {trainable!r} ({type(trainable).__name__})."
        )
    require_one_argument(trainable, name)
    return Target(trainable, name, "function")


def require_one_argument(function: Any, name: str) -> None:
    """Make sure that a function can be called with a config and nothing else.

    Raises:
        ValueError: it cannot; the message names the arguments in the way.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind({})
    except TypeError as error:
        kinds = inspect.Parameter
        required = [
            p
            for p in signature.parameters.values()
            if p.default is kinds.empty and p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        ]
        if any(p.kind is not kinds.KEYWORD_ONLY for p in required):
            surplus = ", ".join(p.name for p in required[1:])
            advice = f"Fix {surplus} with functools.partial or tune.with_parameters."
        else:
            advice = "Give it a first argument for the config."
        raise ValueError(
            f"The trainable {name!r} is called with one argument, the config, but its signature "
            f"is {name}{signature}. {advice}"
        ) from error


def _require_trainable_class(cls: type) -> None:
    from milepost.worker.trainable import Trainable

    if not issubclass(cls, Trainable):
        raise TypeError(
            f"The class {cls.__name__} must derive from milepost.tune.Trainable to be tuned. "
            "To run its instances as functions, pass an instance with __call__(self, config)."
        )


def _registered(name: str) -> Any:
    from milepost.tune.registry import get_trainable

    return get_trainable(name)
