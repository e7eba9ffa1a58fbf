"""What a restored run found and says before it starts anything. Pure.

What happens to each group of trials has been said before that (:mod:`milepost.tune.outlook`), and
where a trial goes on from is said when it starts; this is what only a look into the directories
of the trials and the memory of the scheduler could tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from milepost.control.fates import Goal

_MOST = 10
_GOALS: Final[dict[Goal, tuple[str, str]]] = {
    "PAUSED": ("trial stays paused", "trials stay paused"),
    "TERMINATED": ("trial ends where it is", "trials end where they are"),
    "ERROR": ("trial had failed for good, and ends", "trials had failed for good, and end"),
}


@dataclass(frozen=True, slots=True)
class Prospect:
    """One trial that does not stay as it is.

    Attributes:
        name: the trial's name.
        goal: where it goes first.
        unsettled: how many captured checkpoints wait to be committed.
        adopted: numbers of checkpoints that only their manifests tell of.
        missing: numbers of checkpoints that are on record and not there.
    """

    name: str
    goal: Goal
    unsettled: int = 0
    adopted: Sequence[int] = ()
    missing: Sequence[int] = ()


@dataclass(slots=True)
class Prospects:
    """All of them.

    Attributes:
        trials: in the order in which they come.
        deletions: how many checkpoints are still to be deleted.
    """

    trials: list[Prospect] = field(default_factory=list)
    deletions: int = 0


def describe(prospects: Prospects) -> list[str]:
    """Return what will happen to them, as lines for people."""
    trials = prospects.trials
    lines = []
    for goal, words in _GOALS.items():
        if number := sum(trial.goal == goal for trial in trials):
            lines.append(_count(number, *words))
    lines += _found(
        ((trial.name, trial.adopted) for trial in trials),
        "committed, but not on record: adopted",
    )
    if unsettled := sum(trial.unsettled for trial in trials):
        lines.append(
            f"{_count(unsettled, 'checkpoint was', 'checkpoints were')} captured and not "
            "committed: what is still there is committed first"
        )
    if prospects.deletions:
        lines.append(
            f"{_count(prospects.deletions, 'checkpoint is', 'checkpoints are')} no longer worth "
            "keeping: deleting goes on"
        )
    return lines


def losses(prospects: Prospects) -> list[str]:
    """Return what was expected and is not there, as lines for people."""
    return _found(
        ((trial.name, trial.missing) for trial in prospects.trials),
        "on record, but gone or damaged: not used",
    )


def _found(checkpoints: Iterable[tuple[str, Sequence[int]]], what: str) -> list[str]:
    found = [f"{name} {index:06d}" for name, indices in checkpoints for index in indices]
    if not found:
        return []
    shown = ", ".join(found[:_MOST]) + (", ..." if len(found) > _MOST else "")
    return [f"{_count(len(found), 'checkpoint', 'checkpoints')} {what} ({shown})"]


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
