"""What can happen to a run: the inputs of the machine.

``at`` is seconds since the epoch, for the journal; the machine never compares times.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from milepost.control.resources import Request


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""

    at: float


# --- trials ---------------------------------------------------------------------------------


class TrialAdded(Event, frozen=True, kw_only=True):
    """The searcher proposed a trial.

    Fields as in :class:`milepost.journal.records.Created`; ``size`` is its number of workers.
    """

    trial_id: str
    name: str
    directory: str
    tag: str
    request: Request
    config: msgspec.Raw
    evaluated: msgspec.Raw
    resources: msgspec.Raw
    size: int = 1


class SearchEnded(Event, frozen=True, kw_only=True):
    """There will be no more trials."""


class Place(Event, frozen=True, kw_only=True):
    """Start what fits; ``first`` is the scheduler's choice, if it has one."""

    first: str | None = None


class PauseAsked(Event, frozen=True, kw_only=True):
    """The scheduler pauses a trial; a class saves first if ``save``."""

    trial_id: str
    save: bool = True


class StopAsked(Event, frozen=True, kw_only=True):
    """The scheduler stops a trial."""

    trial_id: str


class UnpauseAsked(Event, frozen=True, kw_only=True):
    """The scheduler lets a paused trial go on; ``in_front`` puts it first in the queue."""

    trial_id: str
    in_front: bool = False


class Reconfigured(Event, frozen=True, kw_only=True):
    """The scheduler gave a trial another config, for its next start."""

    trial_id: str
    config: msgspec.Raw
    tag: str


class ResourcesChanged(Event, frozen=True, kw_only=True):
    """The scheduler gave a trial that does not run other resources."""

    trial_id: str
    request: Request


# --- workers --------------------------------------------------------------------------------


class WorkerStarted(Event, frozen=True, kw_only=True):
    """User code is about to run, or ``setup`` has returned."""

    worker_id: str


class Reported(Event, frozen=True, kw_only=True):
    """A result was received and judged.

    Attributes:
        row: the whole row without config, encoded.
        action: what stoppers and the scheduler decided.
        save: the row or the scheduler asks for a checkpoint (class API).
        checkpoint: the captured index, or None.
        score: what the row has under the metric that ranks checkpoints.
    """

    worker_id: str
    iteration: int
    row: msgspec.Raw
    score: object = None
    action: Literal["continue", "stop", "pause"] = "continue"
    save: bool = False
    checkpoint: int | None = None


class Saved(Event, frozen=True, kw_only=True):
    """A class saved a checkpoint; ``index`` is None when there was nothing to capture."""

    worker_id: str
    index: int | None


class Finished(Event, frozen=True, kw_only=True):
    """User code has returned, or obeyed a stop or pause."""

    worker_id: str
    reason: Literal["returned", "stop", "pause"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt failed.

    Attributes:
        error: digest of the pickled exception in the experiment's objects, or None.
        abort: trying again is pointless.
        storage_full: there was no room for a checkpoint.
    """

    kind: str
    message: str
    traceback: str = ""
    error: str | None = None
    abort: bool = False
    storage_full: bool = False


class WorkerFailed(Event, frozen=True, kw_only=True):
    """User code raised."""

    worker_id: str
    problem: Problem


class WorkerGone(Event, frozen=True, kw_only=True):
    """A worker process has ended, or could not be started; ``problem`` is for a trial it ran."""

    worker_id: str
    problem: Problem


# --- checkpoints ----------------------------------------------------------------------------


class Committed(Event, frozen=True, kw_only=True):
    """The keeper published a checkpoint; ``row`` and ``score`` are its manifest's."""

    trial_id: str
    attempt: int
    index: int
    iteration: int
    path: str
    nbytes: int
    digest: str
    row: msgspec.Raw
    score: object = None


class CommitFailed(Event, frozen=True, kw_only=True):
    """A captured checkpoint will never be committed."""

    trial_id: str
    attempt: int
    index: int
    error: str
    storage_full: bool = False


class Drained(Event, frozen=True, kw_only=True):
    """All captures of an attempt are settled."""

    trial_id: str
    attempt: int
    highest_index: int


class Deleted(Event, frozen=True, kw_only=True):
    """The keeper's answer to a deletion: "deleted", "gone", "busy" or "failed"."""

    trial_id: str
    index: int
    outcome: str
    reason: str = ""


class Verified(Event, frozen=True, kw_only=True):
    """A start was chosen: ``index`` and the checkpoint's ``id``, or None when none is usable.

    Candidates newer than it did not pass.
    """

    trial_id: str
    index: int | None
    id: str | None = None


# --- the run --------------------------------------------------------------------------------


class Overdue(Event, frozen=True, kw_only=True):
    """A trial was told to stop or pause long ago and is still at it."""

    trial_id: str


class StopAll(Event, frozen=True, kw_only=True):
    """The whole run stops: a stopper or the time budget says so."""


class Interrupt(Event, frozen=True, kw_only=True):
    """The user ends the run early; what is unfinished stays unfinished."""


class GraceOver(Event, frozen=True, kw_only=True):
    """Trials that were told to stop had their time: kill them."""


AnyEvent = (
    TrialAdded
    | SearchEnded
    | Place
    | PauseAsked
    | StopAsked
    | UnpauseAsked
    | Reconfigured
    | ResourcesChanged
    | WorkerStarted
    | Reported
    | Saved
    | Finished
    | WorkerFailed
    | WorkerGone
    | Committed
    | CommitFailed
    | Drained
    | Deleted
    | Verified
    | Overdue
    | StopAll
    | Interrupt
    | GraceOver
)
