"""What going on with an experiment does to its trials, told before it is done."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.control.fates import Fate, fate_of, group_of

if TYPE_CHECKING:
    from milepost.journal.image import RunImage, TrialImage

_SAID = {
    ResumeType.RESUME: "go on from their latest checkpoint",
    ResumeType.RESTART: "start again as new trials",
    ResumeType.SKIP: "stay as they are",
}
# What stopped the whole run: what it is called, and what is given for it to hold no more.
_CUT = {
    "budget": ("the time budget", "a larger time_budget_s"),
    "stopper": ("the stop condition", "another one"),
}


def current(image: RunImage) -> Iterator[TrialImage]:
    """Yield the trials that count: all but those that were started again as others."""
    return (trial for trial in image.trials.values() if trial.restarted_by is None)


def taken_up(
    image: RunImage, resume: ResumeConfig, lifted: AbstractSet[str] = frozenset()
) -> Iterator[TrialImage]:
    """Yield the trials that do not stay as they are; their configs are needed."""
    return (trial for trial in current(image) if fate_of(trial, resume, lifted) is not Fate.STAYS)


def outlook(
    image: RunImage,
    resume: ResumeConfig,
    budget_s: float | None = None,
    *,
    lifted: AbstractSet[str] = frozenset(),
    has_other_stop: bool = False,
) -> list[str]:
    """Return what happens to each group of trials, one line per group.

    Args:
        image: the experiment's trials.
        resume: what to do with each group.
        budget_s: the run's time budget in seconds.
        lifted: see :func:`~milepost.control.fates.group_of`.
        has_other_stop: the stop condition is not the one under which trials have finished.
    """
    groups: dict[str, list[TrialImage]] = {
        "finished": [],
        "budget": [],
        "stopper": [],
        "errored": [],
        "unfinished": [],
        "waiting": [],
    }
    for trial in current(image):
        group: str = group_of(trial, lifted)
        if group == "unfinished" and not trial.attempts:
            group = "waiting"
        groups[(trial.cut_by or group) if group == "finished" else group].append(trial)
    lines = []
    if trials := groups["finished"]:
        lines.append(f"{len(trials)} finished: {_finished(resume.finished, has_other_stop)}")
    for cut_by, (what, remedy) in _CUT.items():
        if trials := groups[cut_by]:
            hint = f" ({remedy} goes on with them)" if resume.finished is ResumeType.SKIP else ""
            lines.append(f"{len(trials)} cut short by {what}: {_SAID[resume.finished]}{hint}")
    if trials := groups["errored"]:
        lines.append(f"{len(trials)} failed: {_errored(resume.errored)}")
    if trials := groups["unfinished"]:
        lines.append(f"{len(trials)} unfinished: {_unfinished(trials, resume.unfinished)}")
    if trials := groups["waiting"]:
        said = "end without a start" if resume.unfinished is ResumeType.SKIP else "start"
        lines.append(f"{len(trials)} not started yet: {said}")
    if budget_s is not None:
        lines.append(f"time budget: {image.elapsed_s:.0f} of {budget_s:.0f} s are used up")
    return lines


def _finished(action: ResumeType, has_other_stop: bool) -> str:
    if action is ResumeType.SKIP and has_other_stop:
        return (
            f"{_SAID[action]}, whatever the new stop condition says "
            '(_resume_config=ResumeConfig(finished="resume") goes on with them)'
        )
    return _SAID[action]


def _errored(action: ResumeType) -> str:
    if action is ResumeType.SKIP:
        return (
            f"{_SAID[action]} (resume_errored=True goes on with them, restart_errored=True "
            "starts them again)"
        )
    return _SAID[action]


def _unfinished(trials: list[TrialImage], action: ResumeType) -> str:
    if action is ResumeType.SKIP:
        return "end as they are"
    if action is not ResumeType.RESUME:
        return _SAID[action]
    without = sum(not trial.committed and not trial.captured for trial in trials)
    if without == len(trials):
        return "start at their beginning, they have no checkpoints yet"
    rest = f", {without} without one from their beginning" if without else ""
    return f"{_SAID[action]}{rest}"
