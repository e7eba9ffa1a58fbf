"""What the machine wants done: its outputs. The controller carries them out in order."""

from __future__ import annotations

from typing import Literal

import msgspec

from milepost.checkpoint.validation import Outcome, Task
from milepost.control.checkpoints import Checkpoint
from milepost.control.events import Problem
from milepost.journal.records import AnyRecord


class Command(msgspec.Struct, frozen=True):
    """Base of all commands."""


class Record(Command, frozen=True):
    """Append to the journal."""

    record: AnyRecord


# --- workers --------------------------------------------------------------------------------


class StartWorker(Command, frozen=True, kw_only=True):
    """Start a process; ``gpus`` are ids, or None when none were asked for."""

    worker_id: str
    trial_id: str
    cpus: float
    gpus: tuple[str, ...] | None


class RunTrial(Command, frozen=True, kw_only=True):
    """Tell a worker to run a trial.

    Attributes:
        start: the checkpoint to start from, or None; ``parent`` its id.
        reset: the worker ran another trial before.
    """

    worker_id: str
    trial_id: str
    rank: int
    size: int
    attempt: int
    attempt_id: str
    first_index: int
    start: Checkpoint | None
    parent: str | None
    reset: bool


class Answer(Command, frozen=True, kw_only=True):
    """Reply to a report; one that does not wait goes on, and is told when it is on record."""

    worker_id: str
    action: Literal["continue", "stop", "pause"]
    save: bool = False
    awaited: bool = True


class Attend(Command, frozen=True):
    """Tell a worker to wait for the answers to its reports from now on."""

    worker_id: str


class Preempt(Command, frozen=True, kw_only=True):
    """Tell user code that its trial is to save and will stop at its next report.

    Fields as in :class:`milepost.control.events.Interrupt`; ``ranks`` are the workers whose
    machines go away, None for all.
    """

    worker_id: str
    reason: str
    deadline_ms: int | None
    ranks: tuple[int, ...] | None = None


class Lend(Command, frozen=True, kw_only=True):
    """Tell a trainer in a trial how many workers it may have.

    Attributes:
        worker_id, number: as in :class:`milepost.control.events.BorrowAsked`.
        size: how many; 0 if it may not have any.
        gpus: ids of the GPUs that they hold.
        why: why not.
    """

    worker_id: str
    number: int
    size: int
    gpus: tuple[str, ...]
    why: str


class EndWorker(Command, frozen=True):
    """Tell a worker to clean up and exit."""

    worker_id: str


class KillWorker(Command, frozen=True):
    """Kill a worker and everything it started."""

    worker_id: str


# --- checkpoints ----------------------------------------------------------------------------


class Drain(Command, frozen=True, kw_only=True):
    """Ask the keeper to settle every capture of an attempt, or of all when it is None."""

    trial_id: str
    attempt: int | None


class Delete(Command, frozen=True, kw_only=True):
    """Ask the keeper to delete a checkpoint, once the journal is durable up to here."""

    trial_id: str
    index: int
    path: str


class Verify(Command, frozen=True, kw_only=True):
    """Choose the checkpoint to start from.

    Attributes:
        ticket: goes back with the answer; the trial may ask again before it comes.
        candidates: newest first; all of one trial, which may be another one.
        contents: compare every byte, not only sizes.
    """

    trial_id: str
    ticket: int
    candidates: tuple[Checkpoint, ...]
    contents: bool


# --- validations ----------------------------------------------------------------------------


class Validate(Command, frozen=True, kw_only=True):
    """Start a process that validates a checkpoint, and nothing else.

    Attributes:
        cpus: for how many it is set up; ``gpus`` as in :class:`StartWorker`.
    """

    worker_id: str
    trial_id: str
    checkpoint: Checkpoint
    task: Task
    cpus: float
    gpus: tuple[str, ...] | None


class PublishOutcome(Command, frozen=True, kw_only=True):
    """Put what came of a validation beside the checkpoint's manifest."""

    trial_id: str
    checkpoint: Checkpoint
    outcome: Outcome


class CancelValidation(Command, frozen=True):
    """Kill the process that validates; what it was to validate waits, or is not there any more."""

    worker_id: str


# --- for stoppers, schedulers, searchers, callbacks and the user -----------------------------


class Judge(Command, frozen=True, kw_only=True):
    """A checkpoint was committed whose report never came: judge its row like any other.

    :class:`milepost.control.events.ReportJudged` answers.
    """

    trial_id: str
    index: int
    iteration: int
    row: msgspec.Raw


class CheckpointKept(Command, frozen=True, kw_only=True):
    """A checkpoint of the trial is committed."""

    trial_id: str
    checkpoint: Checkpoint


class TrialExploited(Command, frozen=True, kw_only=True):
    """A trial goes on from another's checkpoint, with this config and tag; it is on record."""

    trial_id: str
    donor_id: str
    config: msgspec.Raw
    tag: str


class TrialFailed(Command, frozen=True, kw_only=True):
    """An attempt failed.

    Attributes:
        failures: how many did so far.
        retried: the trial goes on.
    """

    trial_id: str
    problem: Problem
    failures: int
    retried: bool


class TrialRecovered(Command, frozen=True):
    """A failed trial is going to be tried again; its start is chosen."""

    trial_id: str


class TrialCompleted(Command, frozen=True, kw_only=True):
    """A trial has ended well; ``ran`` is False when a scheduler stopped it while it waited."""

    trial_id: str
    ran: bool = True


class TrialErrored(Command, frozen=True):
    """A trial has failed for good; ``absolved`` if that must not end the run."""

    trial_id: str
    absolved: bool = False


class TrialEnded(Command, frozen=True):
    """A trial has left the state; nothing more happens to it."""

    trial_id: str


class Notice(Command, frozen=True, kw_only=True):
    """One line for the log about something decided here."""

    level: Literal["info", "warning"]
    text: str


class Abort(Command, frozen=True):
    """The run cannot go on."""

    reason: str


AnyCommand = (
    Record
    | StartWorker
    | RunTrial
    | Answer
    | Attend
    | Preempt
    | Lend
    | EndWorker
    | KillWorker
    | Drain
    | Delete
    | Verify
    | Validate
    | PublishOutcome
    | CancelValidation
    | Judge
    | CheckpointKept
    | TrialExploited
    | TrialFailed
    | TrialRecovered
    | TrialCompleted
    | TrialErrored
    | TrialEnded
    | Notice
    | Abort
)
