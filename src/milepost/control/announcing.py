"""What a restored run says before it starts anything: which trials go on, and from where. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from milepost.control.checkpoints import Checkpoint
from milepost.control.fates import Goal

_MOST = 10


@dataclass(frozen=True, slots=True)
class Prospect:
    """One trial that does not stay as it is.

    Attributes:
        name: the trial's name.
        goal: where it goes first.
        has_started: whether it ever ran.
        newest: the newest checkpoint on record that is there.
        unsettled: how many captured checkpoints wait to be committed.
        adopted: numbers of checkpoints that only their manifests tell of.
        missing: numbers of checkpoints that are on record and not there.
    """

    name: str
    goal: Goal
    has_started: bool
    newest: Checkpoint | None = None
    unsettled: int = 0
    adopted: Sequence[int] = ()
    missing: Sequence[int] = ()


@dataclass(slots=True)
class Prospects:
    """All of them.

    Attributes:
        trials: in the order in which they come.
        restarted: names of trials that start again as new ones.
        staying: how many have ended and stay as they are.
        deletions: how many checkpoints are still to be deleted.
        elapsed_s: seconds that earlier runs took.
    """

    trials: list[Prospect] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    staying: int = 0
    deletions: int = 0
    elapsed_s: float = 0.0


def describe(prospects: Prospects) -> list[str]:
    """Return it as lines for people."""
    by_goal: dict[Goal, list[Prospect]] = {
        "PENDING": [],
        "PAUSED": [],
        "TERMINATED": [],
        "ERROR": [],
    }
    waiting = 0
    for trial in prospects.trials:
        if trial.goal == "PENDING" and not trial.has_started:
            waiting += 1
        else:
            by_goal[trial.goal].append(trial)
    lines = [f"Earlier runs took {prospects.elapsed_s:.0f} s."]
    if prospects.staying:
        lines.append(_count(prospects.staying, "trial stays as it is", "trials stay as they are"))
    endings: dict[Goal, Callable[[Prospect], str]] = {
        "PENDING": lambda trial: f"goes on from {_start(trial)}",
        "PAUSED": lambda trial: f"stays paused at {_start(trial)}",
        "TERMINATED": lambda trial: "had come to its end, and ends",
        "ERROR": lambda trial: "had failed for good, and ends",
    }
    for goal, ending in endings.items():
        lines += _listed(f"{trial.name} {ending(trial)}" for trial in by_goal[goal])
    lines += _listed(f"{name} starts again as a new trial" for name in prospects.restarted)
    if waiting:
        lines.append(f"{_count(waiting, 'trial waits', 'trials wait')} for the first start")
    for what, numbers in (
        ("committed, but not on record: adopted", "adopted"),
        ("on record, but gone or damaged: not used", "missing"),
    ):
        found = [
            f"{trial.name} {index:06d}"
            for trial in prospects.trials
            for index in getattr(trial, numbers)
        ]
        if found:
            shown = ", ".join(found[:_MOST]) + (", ..." if len(found) > _MOST else "")
            lines.append(f"{_count(len(found), 'checkpoint', 'checkpoints')} {what} ({shown})")
    unsettled = sum(trial.unsettled for trial in prospects.trials)
    if unsettled:
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


def _start(trial: Prospect) -> str:
    if trial.adopted:
        return f"checkpoint {max(trial.adopted):06d}"
    if trial.newest is None:
        return "the beginning, it has no checkpoint" if not trial.unsettled else "what is captured"
    start = f"checkpoint {trial.newest.index:06d} (iteration {trial.newest.iteration})"
    return f"{start} or what is captured" if trial.unsettled else start


def _listed(lines: Iterable[str]) -> list[str]:
    found = list(lines)
    if len(found) <= _MOST:
        return found
    return [*found[:_MOST], f"... and {len(found) - _MOST} more likewise"]


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
