"""Close matches for misspelt names, worded the same way in every error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error message that helps with a misspelt name.

    Args:
        name: what the user wrote; anything but a string has no close match.
        known: the names that would have been accepted.

    Returns:
        `` Did you mean 'num_to_keep'?`` when one name is close, else
        `` It must be one of: ...`` with every accepted name. Both start with a space.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) else []
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" It must be one of: {', '.join(names)}." if names else ""
