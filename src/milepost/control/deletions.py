"""Deletions that wait for the journal.

A crash must never find bytes gone that no durable record says may go.
"""

from __future__ import annotations

from collections import deque

from milepost.control.commands import Delete


class Deletions:
    """Deletions in the order of the records that allow them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Delete]] = deque()

    def add(self, seq: int, command: Delete) -> None:
        """Let a deletion wait for record ``seq``."""
        self._waiting.append((seq, command))

    def ready(self, synced: int) -> list[Delete]:
        """Take those whose record is durable."""
        ready = []
        while self._waiting and self._waiting[0][0] <= synced:
            ready.append(self._waiting.popleft()[1])
        return ready
