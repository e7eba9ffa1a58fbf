"""Rungs of asynchronous successive halving: who came to a milestone, and with what score."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator, Sequence


class Rung:
    """One milestone.

    Args:
        milestone: when trials come to it, in units of the scheduler's time attribute.
    """

    __slots__ = ("_scores", "_trials", "milestone")

    def __init__(self, milestone: float) -> None:
        self.milestone = milestone
        self._trials: set[str] = set()
        self._scores: list[float] = []  # ascending, without NaN

    def has(self, trial_id: str) -> bool:
        """Whether a trial has been recorded here."""
        return trial_id in self._trials

    def record(self, trial_id: str, score: float) -> None:
        """Note a trial's score; NaN counts as having come, and as nothing else."""
        self._trials.add(trial_id)
        if not math.isnan(score):
            insort(self._scores, score)

    def cutoff(self, keeps: float) -> float | None:
        """The score that parts the best trials from the others.

        Args:
            keeps: the part of the trials that is good enough, between 0 and 1.

        Returns:
            The score, between two of those recorded if need be; None if there are none.
        """
        if not self._scores:
            return None
        # In percent and back, so that the last bit is the same as with numpy.nanpercentile.
        return quantile(self._scores, (1 - keeps) * 100 / 100)

    def __len__(self) -> int:
        return len(self._trials)


class Bracket:
    """Rungs that trials climb, each a number of times as high as the one below it.

    Args:
        min_t: the lowest milestone of bracket 0.
        max_t: no milestone lies above it.
        factor: how much higher each rung is.
        number: so many of the lowest rungs are left out.
    """

    def __init__(self, min_t: float, max_t: float, factor: float, number: int) -> None:
        rungs = int(math.log(max_t / min_t) / math.log(factor) - number + 1)
        self._factor = factor
        self.rungs = [Rung(min_t * factor ** (k + number)) for k in reversed(range(rungs))]

    def passes(self, trial_id: str, time: float, score: float, *, fills: bool) -> bool:
        """Record a trial at the highest rung that it has come to.

        Args:
            trial_id: the trial.
            time: how far it is.
            score: its signed score.
            fills: whether rungs that it has skipped are filled one by one by its later results.

        Returns:
            False if others were too much better at that rung.
        """
        for rung in self.rungs:
            if time < rung.milestone or math.isnan(time):
                continue
            if rung.has(trial_id):
                if fills:
                    continue
                return True
            cutoff = rung.cutoff(1 / self._factor)
            rung.record(trial_id, score)
            return cutoff is None or not score < cutoff
        return True

    def __iter__(self) -> Iterator[Rung]:
        return iter(self.rungs)

    def __str__(self) -> str:
        keeps = 1 / self._factor
        return " | ".join(f"Iter {rung.milestone:.3f}: {rung.cutoff(keeps)}" for rung in self)


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile, interpolated linearly as NumPy does it.

    Between two values of which one is infinite it is the lower one if that is infinite, else the
    higher one.

    Args:
        ordered: at least one number, ascending.
        q: from 0 to 1.
    """
    place = (len(ordered) - 1) * q
    below = math.floor(place)
    low = ordered[below]
    high = ordered[min(below + 1, len(ordered) - 1)]
    share = place - below
    if not share or low == high or math.isinf(low):
        return low
    if math.isinf(high):
        return high
    step = high - low
    return low + step * share if share < 0.5 else high - step * (1 - share)
