"""Finding captures that nobody announced, and sweeping what can never be committed."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from milepost.checkpoint.collect import sweep
from milepost.journal.lease import is_held
from milepost.keeper import intent as intents
from milepost.keeper import returning, told
from milepost.keeper.intent import ExperimentRef, IntentName, Staged
from milepost.keeper.place import abandoned_scratch, captures, drafts
from milepost.process import boot_id, is_alive
from milepost.storage import posix

log = logging.getLogger("milepost.keeper")


class Found(NamedTuple):
    """What is in the staging places of an experiment.

    Attributes:
        complete: captures to commit, by trial and in the order of their indices.
        highest: the highest index of each trial id, of complete and of incomplete ones.
    """

    complete: list[Staged]
    highest: dict[str, int]


def find(
    places: list[str],
    experiment: ExperimentRef,
    *,
    known: Collection[str] = (),
    trial_id: str | None = None,
) -> Found:
    """Look for captures of an experiment; sweep incomplete ones whose process has ended.

    Captures of a copy of the experiment are left alone. So are those of an earlier boot that are
    complete: they were never flushed, so their bytes may be gone although their names are there;
    they are removed, with a warning, since nothing can tell.

    Args:
        places: the staging places.
        experiment: whose captures.
        known: captures that need no look, by their base.
        trial_id: only those of this trial.
    """
    complete = []
    highest: dict[str, int] = {}
    for base, name in captures(places, experiment.uuid):
        if trial_id is not None and name.trial_id != trial_id:
            continue
        highest[name.trial_id] = max(name.index, highest.get(name.trial_id, -1))
        if base in known:
            continue
        staged = _examine(base, name, experiment)
        if staged is not None:
            complete.append(staged)
    if trial_id is None:
        sweep_scratch(places, experiment.uuid)
    complete.sort(key=lambda each: (each.intent.trial_id, each.intent.index, each.intent.rank))
    return Found(complete, highest)


def forget(places: list[str], experiment: ExperimentRef, trial_id: str, index: int) -> None:
    """Remove what is left in staging of a checkpoint that was committed and is to be deleted.

    Its record may be there still, if its removal had failed: then it would be committed again.
    What a copy of the experiment has captured is left alone.

    Raises:
        OSError: it could not be removed, so the checkpoint must not be deleted.
    """
    for base, name in captures(places, experiment.uuid):
        if (name.trial_id, name.index) == (trial_id, index):
            staged = intents.read(base)
            if staged is None or staged.intent.experiment.is_same(experiment):
                intents.remove(base)


def sweep_scratch(places: list[str], uuid: str) -> None:
    """Remove directories that were handed out to processes which have ended."""
    for directory in abandoned_scratch(places, uuid):
        log.info("removing %s: its process has ended before it was captured", directory)
        posix.remove_tree(directory)


def sweep_drafts(places: list[str], experiment: ExperimentRef) -> None:
    """Remove unfinished copies that an earlier keeper of the experiment left in staging."""
    for path in drafts(places, experiment.uuid):
        staged = intents.read(os.path.splitext(path)[0])
        if staged is None or staged.intent.experiment.is_same(experiment):
            posix.remove_tree(path)


def sweep_trials(experiment_path: str, may_sweep: Callable[[], bool]) -> None:
    """Remove what crashes left in the trials' directories; no commit may run meanwhile.

    Args:
        experiment_path: the experiment's directory.
        may_sweep: whether the experiment is still ours; asked before each directory, since what
            lies there may be a successor's by then.
    """
    with os.scandir(experiment_path) as entries:
        trials = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for trial in trials:
        if not may_sweep():
            return
        removed = sweep(trial)
        if removed:
            log.info("removed from %s what a crash had left: %s", trial, ", ".join(removed))


class _Waiting(NamedTuple):
    """Complete captures of one experiment in one place, which nobody is about to commit."""

    owner: ExperimentRef
    checkpoints: int
    nbytes: int
    oldest: float

    @property
    def what(self) -> str:
        """What a person has to be told of; another value is news."""
        there = "" if self.owner.is_there() else ", which is gone"
        return f"{self.checkpoints} of {self.owner.path}{there}"


def report_others(root: str, places: list[str], mine: str) -> None:
    """Say which complete captures of other experiments wait here; they are never swept.

    It is a warning once on this machine, and as often as something changes; otherwise a line of
    the keeper's own log.

    Args:
        root: the node root.
        places: the staging places.
        mine: id of the experiment whose own captures are not meant.
    """
    found: dict[str, _Waiting] = {}
    for place in filter(os.path.isdir, places):
        for uuid in sorted(os.listdir(place)):
            waiting = _waiting(place, uuid) if uuid != mine else None
            if waiting is not None:
                found[os.path.join(place, uuid)] = waiting
    news = told.news(root, {directory: each.what for directory, each in found.items()})
    for directory, waiting in found.items():
        _report_other(directory, waiting, logging.WARNING if directory in news else logging.INFO)


def report_left_behind(places: list[str], experiment: ExperimentRef) -> None:
    """Say which complete captures belong to a directory that this one was copied or moved from.

    While that directory is where it was, it is the original, and they are its own business.
    """
    waiting = []
    for base, _name in captures(places, experiment.uuid):
        staged = intents.read(base)
        if staged is None or staged.captured is None:
            continue
        owner = staged.intent.experiment
        if not owner.is_same(experiment) and not owner.is_there():
            waiting.append(staged)
    if waiting:
        log.warning(
            "%s has checkpoints that were captured when this experiment was in %s, and never "
            "committed: %s. That directory is gone, and %s is another one (a copy, or it was moved "
            "to another file system), so they are not taken for its own: trials go on from the "
            "checkpoints before. Delete them if nobody needs them",
            os.path.dirname(waiting[0].base),
            waiting[0].intent.experiment.path,
            ", ".join(f"{each.intent.trial_id}/{each.intent.index}" for each in waiting),
            experiment.path,
        )


def _waiting(place: str, uuid: str) -> _Waiting | None:
    """What of an experiment waits in a place; None if nothing does, or its own keeper has it."""
    waiting = []
    for base, _name in captures([place], uuid):
        staged = intents.read(base)
        if staged is None or staged.captured is None:
            continue
        owner = staged.intent.experiment
        if is_alive(staged.intent.pid, staged.intent.started) or is_held(owner.path):
            return None
        waiting.append((owner, staged.captured))
    if not waiting:
        return None
    owner, oldest = min(waiting, key=lambda each: each[1].at)
    nbytes = sum(captured.nbytes for _, captured in waiting)
    return _Waiting(owner, len(waiting), nbytes, oldest.at)


def _report_other(directory: str, waiting: _Waiting, level: int) -> None:
    if waiting.owner.is_there():
        advice = (
            "It stays there until that experiment goes on; delete the directory if nobody needs it"
        )
    else:
        advice = (
            "That experiment is not there any more. If it was deleted, nothing can use this: "
            f"rm -r {shlex.quote(directory)}. If it was moved, this stays until it goes on there"
        )
    log.log(
        level,
        "%s holds what was captured of experiment %s and never committed: checkpoints: %d, bytes: "
        "%s, the oldest %.0f minutes old. %s",
        directory,
        waiting.owner.path,
        waiting.checkpoints,
        f"{waiting.nbytes:,}",
        (time.time() - waiting.oldest) / 60,
        advice,
    )


def _examine(base: str, name: IntentName, experiment: ExperimentRef) -> Staged | None:
    """A capture to commit, or None for one that is not ours, under way, or was swept."""
    staged = intents.read(base)
    if staged is None:
        if not is_alive(name.pid, name.started):
            _remove(base, experiment, "its process was killed before it captured anything")
        return None
    intent = staged.intent
    if not intent.experiment.is_same(experiment):
        log.info("%s belongs to %s and is left alone", base, intent.experiment.path)
        return None
    if staged.captured is None:
        if not is_alive(intent.pid, intent.started) or intent.boot != boot_id():
            reason = f"its capture by process {intent.pid} was never completed"
            _remove(base, experiment, reason)
        return None
    if intent.boot != boot_id():
        _remove(
            base,
            experiment,
            f"checkpoint {intent.index} of trial {intent.trial_id} was captured but not committed "
            "when the machine went down, so its bytes may be damaged",
        )
        return None
    return staged


def _remove(base: str, experiment: ExperimentRef, reason: str) -> None:
    log.warning("removing %s from staging: %s", base, reason)
    try:
        returning.discard(base, experiment.path)
    except OSError as error:
        log.warning("%s could not be removed: %s", base, error)
