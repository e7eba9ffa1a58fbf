"""Rounds: the reports of a trial's workers, until each of them has sent its next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from milepost.worker.protocol import Reported


class Rounds:
    """Puts the reports of an attempt's workers together.

    The n-th reports of all workers make up one result: the row is that of rank 0, and there is a
    checkpoint if any of them has captured its part of one.

    Args:
        size: number of workers.
    """

    def __init__(self, size: int) -> None:
        self._waiting: list[deque[Reported]] = [deque() for _ in range(size)]
        self._capturing: set[int] = set()

    def begin_captures(self, ranks: Iterable[int]) -> None:
        """All have called a report, and these ranks capture their parts of its checkpoint."""
        self._capturing = set(ranks)

    @property
    def capturing(self) -> frozenset[int]:
        """Ranks that have not told of their part yet."""
        return frozenset(self._capturing)

    def add(self, rank: int, report: Reported) -> tuple[Reported, ...] | None:
        """Take in a report.

        Returns:
            The reports of all ranks, by rank, once the last of them has come.
        """
        self._waiting[rank].append(report)
        self._capturing.discard(rank)
        if not all(self._waiting):
            return None
        return tuple(each.popleft() for each in self._waiting)


def combined(reports: tuple[Reported, ...]) -> Reported:
    """The result that a round amounts to."""
    first, *others = reports
    if not others:
        return first
    indices = {report.checkpoint for report in reports if report.checkpoint is not None}
    assert len(indices) <= 1, indices
    return first._replace(
        checkpoint=next(iter(indices), None),
        nbytes=sum(report.nbytes for report in reports),
        waited_s=max(report.waited_s for report in reports),
        asks=any(report.asks for report in reports),
    )
