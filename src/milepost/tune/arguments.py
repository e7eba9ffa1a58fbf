"""Which arguments of a call were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def given(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not a function's defaults.

    Args:
        function: what was called.
        **arguments: some of its arguments, as they came.
    """
    parameters = inspect.signature(function).parameters
    return {
        name: value for name, value in arguments.items() if value is not parameters[name].default
    }
