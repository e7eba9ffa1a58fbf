"""What can happen to a run: the inputs of the machine.

``at`` is seconds since the epoch, for the journal; the machine never compares times.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from milepost.checkpoint.validation import Outcome, Task
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.resources import Request


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""

    at: float


# --- trials ---------------------------------------------------------------------------------


class TrialAdded(Event, frozen=True, kw_only=True):
    """The searcher proposed a trial.

    Fields as in :class:`milepost.journal.records.Created`; ``size`` is its number of workers,
    and ``most`` what it takes if there is room for more. Or a trial of an earlier run begins once
    more as this one, which ``restarts`` it.
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
    most: Request | None = None
    restarts: str | None = None


class RunRestored(Event, frozen=True, kw_only=True):
    """An earlier run of the experiment goes on.

    Attributes:
        ended: number of trials that have ended and stay as they are, by status.
        next_order: place of the next new trial among all trials.
        exploits: how often a trial went on from another's checkpoint.
    """

    ended: dict[Literal["TERMINATED", "ERROR"], int]
    next_order: int
    exploits: int = 0


class TrialRestored(Event, frozen=True, kw_only=True):
    """A trial of an earlier run is back, as the journal and its manifests tell it.

    Attributes:
        name, directory, request, size, most: as for :class:`TrialAdded`.
        order: its place among all trials.
        status: on record.
        goal: what becomes of it once everything that it captured is settled.
        attempt: number of the last attempt, -1 before the first.
        next_index: above every checkpoint number that the journal knows.
        failures: how often an attempt failed.
        iteration, row, score: of the last report on record.
        checkpoints: on record and with a manifest, oldest first.
        inflight: captured, and on record as neither committed nor lost, by number.
        missing: on record as committed, but without a good manifest: number and why.
        unclean: whether contents are compared before a checkpoint is used.
        needs_last_save: with the goal TERMINATED: it goes on all the same if there turns out to
            be no checkpoint of its last row.
        fork: the trial and its checkpoint that this one went on from, unless it has one of its own
            since; ``floor`` and ``generation`` as in the state.
        validations: of the checkpoints, those that wait for their validation: number and how.
        offered: iteration and number of the checkpoint that others may go on from; the number is
            None if it was never told.
    """

    trial_id: str
    name: str
    directory: str
    request: Request
    order: int
    size: int = 1
    most: Request | None = None
    status: Literal["PENDING", "RUNNING", "PAUSED", "TERMINATED", "ERROR"] = "PENDING"
    goal: Literal["PENDING", "PAUSED", "TERMINATED", "ERROR"] = "PENDING"
    attempt: int = -1
    next_index: int = 0
    failures: int = 0
    iteration: int = 0
    row: msgspec.Raw = msgspec.Raw(b"{}")
    score: object = None
    checkpoints: tuple[Checkpoint, ...] = ()
    inflight: dict[int, Capture] = {}
    missing: tuple[tuple[int, str], ...] = ()
    unclean: bool = False
    needs_last_save: bool = False
    fork: tuple[str, Checkpoint] | None = None
    floor: int = 0
    generation: int = 0
    validations: tuple[tuple[int, Task], ...] = ()
    offered: tuple[int, int | None] | None = None


class ResultLeft(Event, frozen=True, kw_only=True):
    """The result of an ended trial refers to a checkpoint of another one, which therefore stays."""

    donor_id: str
    checkpoint: Checkpoint


class CheckpointLeft(Event, frozen=True, kw_only=True):
    """A checkpoint of an ended trial was kept because another trial had gone on from it.

    It goes, unless that one still has none of its own.
    """

    trial_id: str
    index: int
    path: str


class DeletionLeft(Event, frozen=True, kw_only=True):
    """An earlier run recorded that a checkpoint may go, and not that it is gone."""

    trial_id: str
    index: int
    path: str


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


class SaveAsked(Event, frozen=True, kw_only=True):
    """The scheduler may have others go on from the result of a trial that is being judged.

    Its checkpoint is kept until the scheduler names another one or none: :class:`OfferEnded`.
    """

    trial_id: str


class OfferEnded(Event, frozen=True, kw_only=True):
    """The scheduler will have nobody go on from what a trial has saved."""

    trial_id: str


class ExploitAsked(Event, frozen=True, kw_only=True):
    """The scheduler has a trial go on from what another one has saved.

    Attributes:
        donor_id: whose checkpoint it is; its own when only the config changes.
        iteration: of that checkpoint's row; None for the one that is being judged.
        config, tag: what the trial goes on with.
        policy: a line for the scheduler's log, or nothing.
    """

    trial_id: str
    donor_id: str
    iteration: int | None
    config: msgspec.Raw
    tag: str
    policy: str = ""


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
        by_condition: the run's stop condition decided it.
        save: the row or the scheduler asks for a checkpoint (class API).
        checkpoint: the captured index, or None.
        asks: user code asks whether it is to save.
        awaited: the worker waits for the answer.
        score: what the row has under the metric that ranks checkpoints.
    """

    worker_id: str
    iteration: int
    row: msgspec.Raw
    score: object = None
    action: Literal["continue", "stop", "pause"] = "continue"
    by_condition: bool = False
    save: bool = False
    checkpoint: int | None = None
    asks: bool = False
    awaited: bool = True


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
        signalled: a signal from outside ended it, as those do that end a whole job.
        engine_died: a process of the engine died and took the worker along.
    """

    kind: str
    message: str
    traceback: str = ""
    error: str | None = None
    abort: bool = False
    storage_full: bool = False
    signalled: bool = False
    engine_died: bool = False


class WorkerFailed(Event, frozen=True, kw_only=True):
    """User code raised."""

    worker_id: str
    problem: Problem


class WorkerGone(Event, frozen=True, kw_only=True):
    """A worker process has ended, or could not be started; ``problem`` is for a trial it ran."""

    worker_id: str
    problem: Problem


class Preempting(Event, frozen=True, kw_only=True):
    """A worker was told that its machine goes away.

    Attributes:
        reason: how, such as ``"SIGTERM"``.
        deadline_ms: when it will be gone, in milliseconds since the epoch; None if nobody knows.
        ranks: of all workers of its trial that were told so.
        problem: what is wrong if that happens too often.
    """

    worker_id: str
    reason: str
    deadline_ms: int | None
    ranks: tuple[int, ...]
    problem: Problem


class BorrowAsked(Event, frozen=True, kw_only=True):
    """A trainer in a trial wants workers.

    Attributes:
        worker_id: the process of the trial.
        number: tells its trainers apart.
        most: what they hold, a bundle for each.
        least: so many of them will do.
    """

    worker_id: str
    number: int
    most: Request
    least: int


class LoanReturned(Event, frozen=True, kw_only=True):
    """The trainer in a trial has ended."""

    worker_id: str
    number: int


class LookForRoom(Event, frozen=True, kw_only=True):
    """Trials with fewer workers than they may have could have more, if there is room now."""


class Silent(Event, frozen=True, kw_only=True):
    """A worker has said nothing for longer than it may; ``problem`` is for the trial it runs."""

    worker_id: str
    problem: Problem


# --- checkpoints ----------------------------------------------------------------------------


class Committed(Event, frozen=True, kw_only=True):
    """The keeper published a checkpoint; ``row``, ``score``, ``validation`` are its manifest's.

    ``adopted`` if that was in an earlier run, and only the manifest tells of it.
    """

    trial_id: str
    attempt: int
    index: int
    iteration: int
    path: str
    nbytes: int
    digest: str
    row: msgspec.Raw
    score: object = None
    validation: Task | None = None
    adopted: bool = False


class CommitFailed(Event, frozen=True, kw_only=True):
    """A captured checkpoint will never be committed."""

    trial_id: str
    attempt: int
    index: int
    error: str
    storage_full: bool = False


class Drained(Event, frozen=True, kw_only=True):
    """All captures of an attempt are settled; of all attempts when it is None."""

    trial_id: str
    attempt: int | None
    highest_index: int


class Deleted(Event, frozen=True, kw_only=True):
    """The keeper's answer to a deletion: "deleted", "gone", "busy" or "failed"."""

    trial_id: str
    index: int
    outcome: str
    reason: str = ""


class Verified(Event, frozen=True, kw_only=True):
    """A start was chosen: ``index`` and the checkpoint's ``id``, or None when none is usable.

    Candidates newer than it did not pass. ``ticket`` as in
    :class:`milepost.control.commands.Verify`.
    """

    trial_id: str
    ticket: int
    index: int | None
    id: str | None = None


class ReportJudged(Event, frozen=True, kw_only=True):
    """The row of a committed checkpoint was judged, whose report never came.

    Fields as in :class:`Reported`; ``index`` is the checkpoint's. With ``on_record`` the report
    was recorded after all, without the checkpoint, so nobody was asked once more.
    """

    trial_id: str
    index: int
    iteration: int
    row: msgspec.Raw
    score: object = None
    action: Literal["continue", "stop", "pause"] = "continue"
    by_condition: bool = False
    on_record: bool = False


# --- validations ----------------------------------------------------------------------------


class ValidationEnded(Event, frozen=True, kw_only=True):
    """The validation that a process carries out is over, and its outcome beside the manifest.

    ``row`` is the checkpoint's with the metrics of the validation, ``score`` what ranks it now.
    """

    worker_id: str
    outcome: Outcome
    row: msgspec.Raw
    score: object = None


class ValidatorGone(Event, frozen=True, kw_only=True):
    """The process that validates has ended."""

    worker_id: str


# --- the run --------------------------------------------------------------------------------


class Overdue(Event, frozen=True, kw_only=True):
    """A trial was told to stop or pause long ago and is still at it.

    Or a machine under it was to be gone by now; ``problem`` is what is wrong if that happens too
    often.
    """

    trial_id: str
    problem: Problem | None = None


class StopAll(Event, frozen=True, kw_only=True):
    """The whole run stops: a stopper or the time budget says so."""

    by: Literal["budget", "stopper"] = "stopper"


class Interrupt(Event, frozen=True, kw_only=True):
    """The run ends early; what is unfinished stays unfinished. It may come again.

    Attributes:
        reason: the signal's name.
        deadline_ms: when :class:`GraceOver` is going to be told, in milliseconds since the epoch;
            None if it is not.
    """

    reason: str = "SIGINT"
    deadline_ms: int | None = None


class GraceOver(Event, frozen=True, kw_only=True):
    """Trials that were told to stop had their time: kill them."""


AnyEvent = (
    TrialAdded
    | RunRestored
    | TrialRestored
    | ResultLeft
    | CheckpointLeft
    | DeletionLeft
    | ReportJudged
    | SearchEnded
    | Place
    | PauseAsked
    | StopAsked
    | UnpauseAsked
    | Reconfigured
    | SaveAsked
    | OfferEnded
    | ExploitAsked
    | ResourcesChanged
    | WorkerStarted
    | Reported
    | Saved
    | Finished
    | WorkerFailed
    | WorkerGone
    | Preempting
    | LookForRoom
    | BorrowAsked
    | LoanReturned
    | Silent
    | Committed
    | CommitFailed
    | Drained
    | Deleted
    | Verified
    | ValidationEnded
    | ValidatorGone
    | Overdue
    | StopAll
    | Interrupt
    | GraceOver
)
