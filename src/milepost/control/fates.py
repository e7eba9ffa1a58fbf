"""What becomes of each trial of an earlier run. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Literal

from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.control.state import ERROR, PAUSED
from milepost.journal.image import TrialImage

Goal = Literal["PENDING", "PAUSED", "TERMINATED", "ERROR"]


class Fate(StrEnum):
    """What becomes of a trial."""

    STAYS = "stays as it is"
    GOES_ON = "goes on"
    RESTARTS = "starts again as a new trial"
    ENDS = "ends"


def group_of(
    trial: TrialImage, lifted: AbstractSet[str] = frozenset()
) -> Literal["finished", "errored", "unfinished"]:
    """The field of :class:`ResumeConfig` that decides about a trial.

    One that had failed for good belongs to those that failed, even if the driver died before it
    could write down its end.

    Args:
        trial: what the journal knows of it.
        lifted: what may have stopped the earlier run as a whole and does not hold any more,
            ``"budget"`` and ``"stopper"``; trials that were cut short with it are unfinished.
    """
    if trial.status == ERROR or trial.given_up:
        return "errored"
    if trial.cut_by in lifted:
        return "unfinished"
    return "finished" if trial.is_finished else "unfinished"


def fate_of(
    trial: TrialImage, resume: ResumeConfig, lifted: AbstractSet[str] = frozenset()
) -> Fate:
    """What becomes of a trial; ``lifted`` as for :func:`group_of`."""
    group = group_of(trial, lifted)
    wanted: ResumeType = getattr(resume, group)
    if wanted is ResumeType.RESTART:
        return Fate.RESTARTS
    if wanted is ResumeType.RESUME:
        return Fate.GOES_ON
    if trial.is_finished:
        return Fate.STAYS
    return Fate.GOES_ON if group == "errored" else Fate.ENDS


def goal_of(
    trial: TrialImage,
    resume: ResumeConfig,
    *,
    is_done: bool,
    other_condition: bool,
    asked: str | None,
    pauses_count: bool,
) -> Goal:
    """The status that a trial which is not left alone goes to first.

    Args:
        trial: one whose fate is ``GOES_ON`` or ``ENDS``.
        resume: decides about groups.
        is_done: whether its last row says that it is done.
        other_condition: the run's stop condition is not the one that decided about the trial,
            and its thresholds are not reached.
        asked: ``"stop"``, ``"pause"`` or ``"go on"``: what the scheduler or a stopper asked for
            last, as far as that was not carried out.
        pauses_count: whether the scheduler knows whom it has paused; otherwise all go on.
    """
    if trial.given_up and resume.errored is ResumeType.SKIP:
        return "ERROR"
    if fate_of(trial, resume) is Fate.ENDS:
        return "TERMINATED"
    if (trial.is_finished and not trial.cut_by) or trial.given_up:
        return "PENDING"
    # A row that is not done belongs to a trial that was cut short together with its run.
    is_done &= not (trial.by_condition and other_condition)
    if asked == "stop" or (trial.action == "stop" and is_done):
        return "TERMINATED"
    is_paused = PAUSED in (trial.status, trial.cut_from) or trial.action == "pause"
    if asked is not None:
        is_paused = asked == "pause"
    return "PAUSED" if is_paused and pauses_count else "PENDING"


def needs_last_save(trial: TrialImage, *, saves_at_end: bool) -> bool:
    """Whether a trial that was told to stop ends only if its last row has its checkpoint.

    Otherwise it goes on from the newest one that there is, and gets there again.

    Args:
        trial: what the journal knows of it.
        saves_at_end: whether a class saves at its end.
    """
    if saves_at_end:
        return True
    newest = max((*trial.committed, *trial.captured), default=-1)
    if max(trial.lost, default=-1) > newest:
        return True
    return newest in trial.captured and trial.captured[newest].iteration == trial.iteration
