"""The trials of a population as population based training knows them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milepost.control.facade import Trial


@dataclass
class Member:
    """A trial, as of the last result at which it was compared.

    Attributes:
        tag: its experiment tag before any change of its config.
        score: signed, so that a larger one is better; NaN counts as none.
        time: of that result, in units of ``time_attr``; 0 before the first.
        perturbed: when it was last compared, or the time of the trial that it went on from.
        iteration: ``training_iteration`` of that result.
        offers: that result's checkpoint is kept for others.
    """

    tag: str
    score: float | None = None
    time: float = 0.0
    perturbed: float = 0.0
    iteration: int = 0
    offers: bool = False


def quantiles(
    trials: Iterable[Trial], members: dict[str, Member], fraction: float
) -> tuple[list[Trial], list[Trial]]:
    """Return the worst and the best trials, each by ascending score.

    Args:
        trials: all of the run; those that have ended or have no score do not count.
        members: what is known of them.
        fraction: the share of each of the two, rounded up, but never more than half.
    """
    scored = [
        (member.score, trial)
        for trial in trials
        if (member := members.get(trial.trial_id)) is not None
        and member.score is not None
        and not math.isnan(member.score)
        and not trial.is_finished()
    ]
    scored.sort(key=lambda pair: pair[0])  # stable: of equals those that came later are better
    ranked = [trial for _, trial in scored]
    count = math.ceil(len(ranked) * fraction)
    if count > len(ranked) / 2:
        count = len(ranked) // 2
    return (ranked[:count], ranked[-count:]) if count and len(ranked) > 1 else ([], [])


def in_turn(trials: Iterable[Trial], lower: Sequence[Trial], upper: Sequence[Trial]) -> list[Trial]:
    """Return trials in the order in which they are dealt with: the best first, the worst last."""
    chosen = {trial.trial_id for trial in (*lower, *upper)}
    return [*upper, *(trial for trial in trials if trial.trial_id not in chosen), *lower]
