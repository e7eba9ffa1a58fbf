"""How often the states of searcher and scheduler are saved."""

from __future__ import annotations

import math
import os
from typing import Final

VARIABLE: Final = "TUNE_GLOBAL_CHECKPOINT_S"
SHORTEST_S: Final = 10.0
SHARE: Final = 0.05


class Cadence:
    """Says when to save, so that saving takes at most 5 % of the time.

    Nothing is lost between two saves but the searcher's and scheduler's memory of what the journal
    knows anyway. Pure: the caller brings the clock.

    Args:
        period_s: save this often, whatever it costs; None to adapt.
    """

    def __init__(self, period_s: float | None = None) -> None:
        self._fixed = period_s
        self._period = SHORTEST_S if period_s is None else period_s
        self._due = -math.inf

    @classmethod
    def from_environment(cls) -> Cadence:
        """Follow ``TUNE_GLOBAL_CHECKPOINT_S``: seconds, or ``auto``, which is the default.

        Raises:
            ValueError: it is neither.
        """
        text = os.environ.get(VARIABLE, "auto")
        if text == "auto":
            return cls()
        try:
            period = float(text)
        except ValueError:
            period = -1.0
        if not 0 <= period < math.inf:
            raise ValueError(
                f"{VARIABLE} must be a number of seconds or 'auto', but it is {text!r}"
            )
        return cls(period)

    @property
    def period_s(self) -> float:
        """Seconds from one save to the next, as of now."""
        return self._period

    def is_due(self, now: float) -> bool:
        """Whether to save; at first at once.

        Args:
            now: seconds on a monotonic clock.
        """
        return now >= self._due

    def saved(self, now: float, took_s: float) -> None:
        """Take note of a save that has just ended and took that many seconds."""
        if self._fixed is None:
            self._period = max(SHORTEST_S, took_s * (1 - SHARE) / SHARE)
        self._due = now + self._period
