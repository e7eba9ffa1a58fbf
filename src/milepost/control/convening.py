"""Meetings of workers, as messages: who says what, and what they are told."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from milepost.control.meetings import Missing, Outcome, Said
from milepost.control.state import Phase
from milepost.worker.protocol import Meet, Met, dump_error

if TYPE_CHECKING:
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")

#: How long workers wait for each other, in seconds; a number that is not positive is no limit.
LIMIT_VARIABLE = "RAY_TRAIN_COLLECTIVE_TIMEOUT_S"
#: How often it is said that they do.
WARN_VARIABLE = "RAY_TRAIN_COLLECTIVE_WARN_INTERVAL_S"

_LIMIT_S = 1800.0
_WARN_S = 60.0


def limit_s() -> float | None:
    """How long workers wait for each other; None for ever."""
    limit = _number(LIMIT_VARIABLE, _LIMIT_S)
    return limit if limit > 0 else None


def warn_s() -> float:
    """How often it is said that they do."""
    return _number(WARN_VARIABLE, _WARN_S)


def say(run: Run, worker_id: str, message: Meet) -> None:
    """A worker waits for the others of its trial."""
    place = _place(run, worker_id)
    if place is None:
        return
    trial_id, rank = place
    run.silence.excuse(worker_id)  # if somebody is silent, it is one that it waits for
    said = Said(message.what, message.data, message.note, message.captures)
    _tell(run, run.meetings.say(trial_id, rank, said, time.monotonic()))


def left(run: Run, worker_id: str) -> None:
    """The function of a worker has ended, and it comes to no meeting any more."""
    place = _place(run, worker_id)
    if place is not None:
        trial_id, rank = place
        _tell(run, run.meetings.leave(trial_id, rank))


def tick(run: Run, now: float) -> None:
    """Tell of those that are missing for long, and end meetings that took too long.

    Args:
        run: whose meetings.
        now: monotonic seconds.
    """
    for found in run.meetings.due(now):
        if isinstance(found, Outcome):
            _tell(run, found)
        else:
            _warn(run, found)


def _place(run: Run, worker_id: str) -> tuple[str, int] | None:
    """A worker's trial and rank, while all of its trial run."""
    worker = run.machine.state.workers.get(worker_id)
    trial = run.machine.trials.get(worker.trial_id or "") if worker is not None else None
    if trial is None or trial.size == 1 or trial.phase is Phase.DYING:
        return None
    return trial.trial_id, trial.workers.index(worker_id)


def _tell(run: Run, outcome: Outcome | None) -> None:
    if outcome is None:
        return
    error = b"" if outcome.error is None else dump_error(outcome.error)
    run.ledger.live[outcome.trial_id].rounds.begin_captures(outcome.capturing)
    workers = run.machine.trials[outcome.trial_id].workers
    for rank in outcome.ranks:
        run.workers.send(workers[rank], Met(outcome.data, outcome.notes, error))
        run.must_speak(workers[rank])


def _warn(run: Run, found: Missing) -> None:
    log.warning(
        "Trial %s: rank%s %s for %.0f s in %s, which rank%s %s not called yet.",
        run.ledger.live[found.trial_id].name,
        _listed(found.waiting),
        "waits" if len(found.waiting) == 1 else "wait",
        found.waited_s,
        found.what,
        _listed(found.missing),
        "has" if len(found.missing) == 1 else "have",
    )


def _listed(ranks: tuple[int, ...]) -> str:
    return ("s " if len(ranks) > 1 else " ") + ", ".join(str(rank) for rank in ranks)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    try:
        return default if text is None else float(text)
    except ValueError:
        log.warning("%s=%r is no number of seconds; %g s it is.", variable, text, default)
        return default
