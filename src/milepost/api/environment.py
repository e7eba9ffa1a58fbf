"""Numbers that users set in environment variables."""

from __future__ import annotations

import math
import os


def seconds(variable: str, default_s: float, meaning: str = "") -> float:
    """Return the seconds that a variable says, or the default where it is not set.

    Args:
        variable: its name.
        default_s: the default.
        meaning: a sentence for the error, without its full stop: what the variable is for.

    Raises:
        ValueError: it is set and is not a number of seconds, 0 or more.
    """
    configured = os.environ.get(variable)
    if not configured:
        return default_s
    try:
        number = float(configured)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        told = f". {meaning}" if meaning else ""
        raise ValueError(f"{variable}={configured!r} is not a number of seconds, 0 or more{told}")
    return number
