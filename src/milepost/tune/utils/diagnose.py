"""Finding what keeps a function from being sent to trials."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from milepost.errors import summary


def diagnose_serialization(trainable: Callable[..., Any]) -> set[str] | Literal[True]:
    """Find out which variables keep a function from being pickled, and print it.

    Args:
        trainable: the function.

    Returns:
        True when it can be pickled; else the names of the variables that it captures and that
        cannot be (empty when the reason lies deeper).
    """
    error = _pickling_error(trainable)
    if error is None:
        print(f"{trainable} can be sent to trials.")
        return True
    print(f"{trainable} cannot be sent to trials: {summary(error)}")
    try:
        captured = inspect.getclosurevars(trainable)
    except TypeError:  # a class or an object that is callable
        return set()
    failing: set[str] = set()
    for kind, variables in (("global", captured.globals), ("closure", captured.nonlocals)):
        for name, value in variables.items():
            reason = _pickling_error(value)
            if reason is not None:
                failing.add(name)
                print(f"  {kind} {name} = {value!r}: {summary(reason)}")
    if failing:
        print(
            f"Create {', '.join(sorted(failing))} inside the function, or pass what they are made "
            "from with tune.with_parameters."
        )
    return failing


def _pickling_error(value: Any) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return error
    return None
