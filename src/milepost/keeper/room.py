"""How many bytes may wait in staging on this node, and who waits for room."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable

STAGING_BYTES_VARIABLE = "MILEPOST_STAGING_BYTES"
DEFAULT_BYTES = 16 << 30

RoomKey = tuple[str, str, int, int, int]
"""Experiment, trial, attempt, rank and index of a capture."""


def limit_bytes(place: str) -> int:
    """The bound: ``$MILEPOST_STAGING_BYTES``, or 16 GiB or a quarter of what is free in ``place``.

    Raises:
        ValueError: the variable is set and is not a positive whole number.
    """
    configured = os.environ.get(STAGING_BYTES_VARIABLE)
    if configured:
        if not configured.isdigit() or int(configured) == 0:
            raise ValueError(
                f"{STAGING_BYTES_VARIABLE}={configured!r} is not a positive number of bytes"
            )
        return int(configured)
    disk = os.statvfs(place)
    return min(DEFAULT_BYTES, disk.f_bavail * disk.f_frsize // 4)


class Room:
    """Counts the bytes of captures that are under way or not committed yet.

    A capture that is larger than the bound is let in when nothing else is.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[RoomKey, int] = {}
        self._waiting: OrderedDict[RoomKey, tuple[int, float, Callable[[float], None]]] = (
            OrderedDict()
        )
        self.nbytes = 0

    def reserve(self, key: RoomKey, nbytes: int, granted: Callable[[float], None]) -> bool:
        """Call ``granted`` with the seconds waited, at once or when there is room; in order.

        Returns:
            Whether it was called at once.
        """
        self.release(key)
        self._waiting[key] = (nbytes, time.monotonic(), granted)
        self._admit()
        return key not in self._waiting

    def take(self, key: RoomKey, nbytes: int) -> None:
        """Count bytes that are there already."""
        self.nbytes += nbytes - self._taken.get(key, 0)
        self._taken[key] = nbytes

    def release(self, key: RoomKey) -> None:
        """Give room back; nothing happens for a key that has none."""
        self._waiting.pop(key, None)
        self.nbytes -= self._taken.pop(key, 0)
        self._admit()

    def taken(self) -> list[RoomKey]:
        """The captures that have room or wait for it."""
        return [*self._taken, *self._waiting]

    def _admit(self) -> None:
        while self._waiting:
            key, (nbytes, since, granted) = next(iter(self._waiting.items()))
            if self.nbytes and self.nbytes + nbytes > self._limit:
                return
            del self._waiting[key]
            self.take(key, nbytes)
            granted(time.monotonic() - since)
