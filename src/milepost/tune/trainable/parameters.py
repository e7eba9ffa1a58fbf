"""Giving a trainable large objects besides its config."""

from __future__ import annotations

import inspect
from typing import Any

from milepost.api.spelling import did_you_mean


def with_parameters(trainable: Any, **kwargs: Any) -> Any:
    """Return a trainable that gets further arguments besides its config.

    Mirrors ``ray.tune.with_parameters``. The arguments travel to workers once per run; arrays in
    them are shared between trials by memory map, not copied, and changes that one trial makes are
    not seen by others.

    Args:
        trainable: a function ``f(config, **kwargs)``, or a ``Trainable`` class whose ``setup``
            takes ``setup(config, **kwargs)``.
        **kwargs: the arguments.

    Returns:
        A function of the config alone, or a subclass; both keep the name.

    Raises:
        ValueError: it is neither a function nor a ``Trainable`` class.
        TypeError: it takes no argument of one of the names.

    Example:
        >>> def train(config, data):
        ...     return {"total": sum(data) * config["scale"]}
        >>> with_parameters(train, data=[1, 2, 3])({"scale": 2})
        {'total': 12}
    """
    if isinstance(trainable, type):
        return _class_with_parameters(require_trainable(trainable, "with_parameters"), kwargs)
    require_trainable(trainable, "with_parameters")
    return FunctionWithParameters(trainable, kwargs)


class FunctionWithParameters:
    """A function of the config whose other arguments are given.

    Args:
        function: takes the config and the arguments.
        parameters: the arguments by name.

    Raises:
        TypeError: the function takes no argument of one of the names.
    """

    def __init__(self, function: Any, parameters: dict[str, Any]) -> None:
        signature = _signature(function)
        if signature is not None:
            _require_known(function, signature, parameters)
            rest = [p for p in signature.parameters.values() if p.name not in parameters]
            self.__signature__ = _ordered(signature, rest)
        self.function = function
        self.parameters = parameters
        name = getattr(function, "__name__", None)
        if name is not None:
            self.__name__ = name
        self.__doc__ = getattr(function, "__doc__", None)
        for attribute in ("_resources", "__mixins__", "_name"):
            if hasattr(function, attribute):
                setattr(self, attribute, getattr(function, attribute))

    def __call__(self, config: Any, **more: Any) -> Any:
        """Call the function."""
        return self.function(config, **self.parameters, **more)

    def __repr__(self) -> str:
        return f"<{self.function!r} with {', '.join(self.parameters) or 'no parameters'}>"


def _class_with_parameters(cls: Any, parameters: dict[str, Any]) -> Any:
    signature = _signature(cls.setup)
    if signature is not None:
        _require_known(cls, signature, parameters)

    def setup(self: Any, config: dict[str, Any], **more: Any) -> None:
        cls.setup(self, config, **parameters, **more)

    return type(cls.__name__, (cls,), {"setup": setup, "__doc__": cls.__doc__})


def require_trainable(trainable: Any, function: str) -> Any:
    """Return a function or ``Trainable`` class, and refuse anything else.

    Args:
        trainable: what a user passed.
        function: the function it was passed to, for the message.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(trainable, type):
        from milepost.worker.trainable import Trainable

        if issubclass(trainable, Trainable):
            return trainable
    elif callable(trainable):
        return trainable
    raise ValueError(
        f"tune.{function} takes a function or a class that derives from milepost.tune.Trainable, "
        f"got {trainable!r} ({type(trainable).__name__})."
    )


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins tell nothing about themselves
        return None


def _require_known(owner: Any, signature: inspect.Signature, parameters: dict[str, Any]) -> None:
    kinds = inspect.Parameter
    if any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values()):
        return
    known = [
        p.name
        for p in signature.parameters.values()
        if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    for name in parameters:
        if name not in known:
            label = getattr(owner, "__name__", repr(owner))
            what = f"{label}.setup" if isinstance(owner, type) else label
            raise TypeError(
                f"tune.with_parameters: {what}{signature} takes no argument {name!r}."
                + did_you_mean(name, known)
            )


def _ordered(
    signature: inspect.Signature, parameters: list[inspect.Parameter]
) -> inspect.Signature:
    """A signature of fewer parameters; those after a given one can only be passed by name."""
    kinds = inspect.Parameter
    kept: list[inspect.Parameter] = []
    by_name = False
    names = {p.name for p in parameters}
    for parameter in signature.parameters.values():
        if parameter.name not in names:
            by_name = True
        elif by_name and parameter.kind is kinds.POSITIONAL_OR_KEYWORD:
            kept.append(parameter.replace(kind=kinds.KEYWORD_ONLY))
        else:
            kept.append(parameter)
    return signature.replace(parameters=sorted(kept, key=lambda p: p.kind))
