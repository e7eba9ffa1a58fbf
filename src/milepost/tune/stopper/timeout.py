"""A stopper that ends a run after a time."""

from __future__ import annotations

import logging
import math
import time
from datetime import timedelta
from typing import Any

from milepost.api.stopper import Stopper

logger = logging.getLogger("milepost.tune")


class TimeoutStopper(Stopper):
    """Ends the run when its time is used up.

    The clock starts at the first poll. After a restore the remaining time counts; the time in
    between does not.

    Args:
        timeout: seconds, or a ``timedelta``.

    Raises:
        ValueError: it is neither, or negative.
    """

    def __init__(self, timeout: float | timedelta) -> None:
        if isinstance(timeout, timedelta):
            seconds = timeout.total_seconds()
        elif isinstance(timeout, int | float) and not math.isnan(timeout):
            seconds = timeout
        else:
            raise ValueError(
                "A timeout must be a number of seconds or a datetime.timedelta, got "
                f"{timeout!r} ({type(timeout).__name__})."
            )
        if seconds < 0:
            raise ValueError(f"A timeout must not be negative, got {timeout!r}.")
        self._timeout_s = seconds
        self._budget_s: float = seconds
        self._last_check: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """False: it never stops one trial alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the time is used up."""
        now = time.monotonic()
        if self._last_check is not None:
            self._budget_s -= now - self._last_check
        self._last_check = now
        if self._budget_s > 0:
            return False
        logger.info("The time budget of %s s is used up; the run ends.", self._timeout_s)
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A monotonic clock means nothing to another process; the remaining budget does.
        return {**vars(self), "_last_check": None}
