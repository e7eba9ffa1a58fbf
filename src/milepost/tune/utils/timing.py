"""Dates in names, and warnings about slow operations."""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType

logger = logging.getLogger("milepost.tune")

#: Seconds above which an operation counts as slow.
DEFAULT_WARN_THRESHOLD_S = 0.5


def date_str() -> str:
    """Return the local time as it appears in names of experiments: ``2026-03-01_12-00-00``."""
    return time.strftime("%Y-%m-%d_%H-%M-%S")


class warn_if_slow:  # noqa: N801 - Ray's name, used like a function
    """A context manager that warns in the log when its block took long.

    Args:
        name: what the block does, for the message.
        threshold: seconds; the default is 0.5, or the variable ``TUNE_WARN_THRESHOLD_S``.
        message: the whole message; it may contain ``{name}`` and ``{duration}``.
        disable: never warn.
    """

    DEFAULT_MESSAGE = "{name} took {duration:.3f} s, which slows the run down."

    def __init__(
        self,
        name: str,
        threshold: float | None = None,
        message: str | None = None,
        disable: bool = False,
    ) -> None:
        if threshold is None:
            threshold = float(os.environ.get("TUNE_WARN_THRESHOLD_S", DEFAULT_WARN_THRESHOLD_S))
        self.name = name
        self.threshold = threshold
        self.message = message or self.DEFAULT_MESSAGE
        self.disable = disable
        self.too_slow = False
        self._start = 0.0

    def __enter__(self) -> warn_if_slow:
        self._start = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        duration = time.monotonic() - self._start
        if duration > self.threshold and not self.disable:
            self.too_slow = True
            logger.warning("%s", self.message.format(name=self.name, duration=duration))
