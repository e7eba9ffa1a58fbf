"""Brackets of synchronous successive halving: trials that wait for each other at milestones."""

from __future__ import annotations

import math
from collections.abc import Iterator


class HalvingBracket:
    """Trials that compete with each other.

    Args:
        size: number of trials that it takes.
        milestone: the first point at which they are compared, in units of the time attribute.
        halvings: how often only the best go on.
        factor: one in so many goes on, and then so many times as far.
        max_t: no milestone lies above it.
        ends: whether all trials end at the last milestone; else those that come behind the last
            halving run on by themselves.
    """

    def __init__(
        self, size: int, milestone: float, halvings: int, factor: float, max_t: float, *, ends: bool
    ) -> None:
        self.size = size
        self.milestone = milestone
        self.halvings = halvings
        self._factor = factor
        self._max_t = max_t
        self._ends = ends
        self._work = _work(size, milestone, halvings, factor, max_t)
        self._done = 0.0
        self._is_closed = False
        self._last: dict[str, tuple[float, float] | None] = {}

    # --- its trials -------------------------------------------------------------------------

    @property
    def takes_more(self) -> bool:
        """Whether trials may still join: some are missing, and none has been dropped."""
        return not self._is_closed and len(self._last) < self.size

    @property
    def is_over(self) -> bool:
        """Whether there is no trial left, and none will come."""
        return self._is_closed and not self._last

    def add(self, trial_id: str) -> None:
        """Take in a trial."""
        self._last[trial_id] = None

    def remove(self, trial_id: str) -> None:
        """Let go of a trial."""
        del self._last[trial_id]

    def note(self, trial_id: str, time: float, score: float) -> bool:
        """Take in a result; False if time has gone back."""
        last = self._last[trial_id]
        before = 0.0 if last is None else last[0]
        if time > before:
            self._done += time - before
        self._last[trial_id] = time, score
        return not time < before

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._last))

    def __len__(self) -> int:
        return len(self._last)

    # --- milestones -------------------------------------------------------------------------

    @property
    def is_last(self) -> bool:
        """Whether all halvings are done."""
        return self.halvings == 0

    def has_arrived(self, trial_id: str) -> bool:
        """Whether a trial has come to the milestone and must wait there."""
        last = self._last[trial_id]
        return last is not None and self.is_milestone(last[0])

    def is_milestone(self, time: float) -> bool:
        """Whether a trial that has come so far must wait for the others."""
        return time >= self.milestone and not (self.is_last and not self._ends)

    @property
    def is_complete(self) -> bool:
        """Whether there are trials, and all have come to the milestone."""
        return bool(self._last) and all(map(self.has_arrived, self._last))

    def drop(self) -> list[str]:
        """Let go of all but the best, which get the next milestone; at the last one, of all.

        NaN is worse than any number; of equals, those that joined last are better.

        Returns:
            The trials that are out.
        """
        self._is_closed = True
        if self.is_last:
            out = list(self._last)
            self._last.clear()
            return out
        self.halvings -= 1
        self.size = math.ceil(self.size / self._factor)
        self.milestone = _next(self.milestone, self._factor, self._max_t)
        out = sorted(self._last, key=self._rank)[: -self.size]
        for trial_id in out:
            del self._last[trial_id]
        return out

    def _rank(self, trial_id: str) -> float:
        last = self._last[trial_id]
        return -math.inf if last is None or math.isnan(last[1]) else last[1]

    # --- for people -------------------------------------------------------------------------

    @property
    def completion(self) -> float:
        """How much of its work is done, from 0 to 1 and, after failures, somewhat above."""
        return self._done / self._work

    def __str__(self) -> str:
        return (
            f"{len(self._last)} of {self.size} trials, milestone {self.milestone:g}, "
            f"{self.halvings} halvings left, {self.completion:.1%} done"
        )


def _work(size: int, milestone: float, halvings: int, factor: float, max_t: float) -> float:
    """How far all trials of a bracket run together, if none ends by itself."""
    work = size * milestone
    for _ in range(halvings):
        size, before = math.ceil(size / factor), milestone
        milestone = _next(milestone, factor, max_t)
        work += size * (milestone - before)
    return work


def _next(milestone: float, factor: float, max_t: float) -> int:
    """The milestone behind another one: a whole number, and a later one."""
    return int(min(max(milestone * factor, milestone + 1), max_t))
