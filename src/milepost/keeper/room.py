"""How many bytes may wait in staging on this node, and who waits for room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

RoomKey = tuple[str, str, int, int, int]
"""Experiment, trial, attempt, rank and index of a capture."""


class Room:
    """Counts the bytes of captures that are under way or not committed yet.

    A capture that is larger than the bound is let in when nothing else is.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[RoomKey, int] = {}
        self._reserved: set[RoomKey] = set()
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
        self._admit(asking=key)
        return key not in self._waiting

    def take(self, key: RoomKey, nbytes: int) -> None:
        """Count bytes that are there already; what was reserved for them is used by that."""
        self._reserved.discard(key)
        self.nbytes += nbytes - self._taken.get(key, 0)
        self._taken[key] = nbytes

    def release(self, key: RoomKey) -> None:
        """Give room back; nothing happens for a key that has none."""
        self._waiting.pop(key, None)
        self._reserved.discard(key)
        self.nbytes -= self._taken.pop(key, 0)
        self._admit()

    @property
    def free_bytes(self) -> int:
        """How much room there is."""
        return max(0, self._limit - self.nbytes)

    def reserved(self) -> list[RoomKey]:
        """The captures that wait for room, or have it and have not used it yet."""
        return [*self._reserved, *self._waiting]

    def _admit(self, asking: RoomKey | None = None) -> None:
        while self._waiting:
            key, (nbytes, since, granted) = next(iter(self._waiting.items()))
            if self.nbytes and self.nbytes + nbytes > self._limit:
                return
            del self._waiting[key]
            self.take(key, nbytes)
            self._reserved.add(key)
            granted(0.0 if key == asking else time.monotonic() - since)
