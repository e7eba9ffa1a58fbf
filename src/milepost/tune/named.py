"""Arguments of things that are made by name."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("milepost.tune")


def accepted_arguments(kind: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that something accepts; each one left out is named in the log.

    Scripts that choose by name pass the same arguments to all choices, so a surplus one is no
    error.
    """
    known = inspect.signature(kind).parameters
    for name in arguments.keys() - known.keys():
        logger.warning(
            "%s takes no %s, so %s=%r has no effect. It takes: %s.",
            kind.__name__,
            name,
            name,
            arguments[name],
            ", ".join(known) or "nothing",
        )
    return {name: value for name, value in arguments.items() if name in known}
