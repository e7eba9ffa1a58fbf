"""The state of a run as the machine keeps it: trials, workers, resources and what is awaited.

Nothing here does I/O or looks at a clock. Values of users (configs, rows) are opaque: encoded JSON
that is carried along.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from milepost.checkpoint.retention import Policy
from milepost.control.checkpoints import (
    Adoption,
    Capture,
    Checkpoint,
    Offer,
    Pending,
    Validator,
)
from milepost.control.events import Committed, Problem
from milepost.control.loans import Borrower, Loan
from milepost.control.queue import StartQueue
from milepost.control.resources import Grant, Pool, Request

Status = Literal["PENDING", "RUNNING", "PAUSED", "TERMINATED", "ERROR"]

PENDING: Status = "PENDING"
RUNNING: Status = "RUNNING"
PAUSED: Status = "PAUSED"
TERMINATED: Status = "TERMINATED"
ERROR: Status = "ERROR"

STATUSES: Final[dict[str, Status]] = {
    status: status for status in (PENDING, RUNNING, PAUSED, TERMINATED, ERROR)
}


class Phase(StrEnum):
    """Where exactly a trial is; each belongs to one status, except ``SETTLING``."""

    QUEUED = "queued"  # PENDING: ready, waits for resources
    PREPARING = "preparing"  # PENDING: its start is being chosen and verified
    STARTING = "starting"  # PENDING: holds resources, its workers were told to run it
    TRAINING = "training"  # RUNNING: user code runs
    SAVING = "saving"  # RUNNING: a class saves a checkpoint before it goes on or ends
    STOPPING = "stopping"  # RUNNING: told to stop or pause, has not yet done so
    DYING = "dying"  # its workers were killed, their death is awaited
    SETTLING = "settling"  # no worker; captured checkpoints are awaited; then its goal
    PAUSED = "paused"  # PAUSED: everything settled
    ADOPTING = "adopting"  # PAUSED: waits for another trial's checkpoint, to go on from that
    ENDED = "ended"  # TERMINATED or ERROR: leaves the state


#: Phases in which a trial could be started.
WAITING = frozenset({Phase.QUEUED, Phase.PAUSED})

#: Phases in which a trial holds a slot and has workers.
ACTIVE = frozenset({Phase.STARTING, Phase.TRAINING, Phase.SAVING, Phase.STOPPING, Phase.DYING})


class Halt(StrEnum):
    """Why a running trial will be told to stop at its next report."""

    PAUSE = "pause"  # the scheduler pauses it
    STOP = "stop"  # the scheduler stops it: an ordinary end
    END = "end"  # the whole run stops: no hooks, no checkpoint at the end
    INTERRUPT = "interrupt"  # the user interrupts: it stays unfinished in the journal
    PREEMPT = "preempt"  # a worker's machine goes away: it saves and begins again
    RESIZE = "resize"  # there is room for more workers: it saves and begins again


#: Why a trial will be told to stop, only to begin again.
RESTARTS = frozenset({Halt.PREEMPT, Halt.RESIZE})


class TrialState(msgspec.Struct):
    """A trial that has not ended.

    Attributes:
        order: its place among all trials, from 0.
        directory: relative to the experiment.
        request: resources that it needs; ``most`` what it takes if there is room for more workers
            than it needs.
        size: number of workers.
        workers: ids of its workers, by rank.
        started, finished: those of them that run user code, and that are done with it.
        grant: resources that it holds.
        attempt: number of the current or last attempt, from 0; -1 before the first.
        next_index: the next attempt's first checkpoint gets at least this number.
        failures: how often an attempt failed.
        restore_failures: how often in a row it could not start from its checkpoint.
        engine_deaths: how often the engine took its workers along since its last report.
        iteration, row, score: of the last report of this attempt.
        inflight: captured checkpoints that are neither committed nor failed.
        early: commits that were told before their capture.
        unjudged: commits whose report never came, until it has been judged.
        checkpoints: committed ones that are kept, oldest first.
        start: the checkpoint that the next attempt starts from; ``start_id`` its id.
        offer: what others may go on from: the checkpoint of a result that the scheduler chose.
        adoption: what it is going to take over from another trial.
        fork: what it went on from and must still be able to: it has none of its own since.
        floor: its own checkpoints since then have at least this number.
        generation: how often it went on from another's checkpoint.
        unclean: the last attempt failed, so contents are compared before one is used.
        unverified: it was restored, and nothing of it is deleted until its start is chosen.
        needs_last_save: it was restored to end, if its last row has its checkpoint.
        stops_at: it was to stop at this iteration, and has to get there again.
        absolved: its failure has ended an earlier run, and does not end this one too.
        ticket: number of the last question which checkpoint is good; other answers are too late.
        recovering: it is tried again, and nobody has been told yet.
        draining: the keeper was asked to settle all captures of the last attempt.
        goal: the status that ``SETTLING`` leads to.
        quiet: it ends without hooks, because the whole run stops.
        preemptions: how often it began again because a machine went away.
        preempted: ranks whose machine goes away; ``taken`` is the problem with that.
        own_end: it would have ended all the same.
        halt: why it will be told to stop at its next report, or what it was asked to do while it
            settled.
        saves_on_pause: a class saves before it pauses.
        in_front: it will be put before all others in the queue.
        has_saved: this attempt has reported a checkpoint (function API).
        spared: it was to stop and got one more report, to bring a checkpoint with it.
        after_save: what it does once the checkpoint being saved is captured.
        problem: why this attempt fails once its other workers have died.
        lost: why a checkpoint of this attempt could not be committed.
        storage_full: whether that was because storage has no room.
        starved: storage was full at the last failure, and nothing was committed since.
    """

    trial_id: str
    order: int
    name: str
    directory: str
    request: Request
    status: Status = PENDING
    phase: Phase = Phase.QUEUED
    most: Request | None = None
    size: int = 1
    workers: list[str] = []
    started: set[str] = set()
    finished: set[str] = set()
    grant: Grant | None = None
    attempt: int = -1
    next_index: int = 0
    failures: int = 0
    restore_failures: int = 0
    engine_deaths: int = 0
    iteration: int = 0
    row: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    score: object = None
    inflight: dict[int, Capture] = {}
    early: dict[int, Committed] = {}
    unjudged: dict[int, Committed] = {}
    checkpoints: dict[int, Checkpoint] = {}
    start: Checkpoint | None = None
    start_id: str | None = None
    offer: Offer | None = None
    adoption: Adoption | None = None
    fork: Offer | None = None
    floor: int = 0
    generation: int = 0
    unclean: bool = False
    unverified: bool = False
    needs_last_save: bool = False
    stops_at: int | None = None
    absolved: bool = False
    ticket: int = 0
    recovering: bool = False
    draining: bool = False
    goal: Status | None = None
    preemptions: int = 0
    preempted: tuple[int, ...] = ()
    taken: Problem | None = None
    quiet: bool = False
    own_end: bool = False
    halt: Halt | None = None
    saves_on_pause: bool = True
    in_front: bool = False
    has_saved: bool = False
    spared: bool = False
    after_save: Literal["continue", "stop", "pause"] = "continue"
    problem: Problem | None = None
    lost: str | None = None
    storage_full: bool = False
    starved: bool = False

    def is_to_stop(self, iteration: int) -> bool:
        """Whether it stops at this iteration, as has been decided before."""
        return self.stops_at is not None and iteration >= self.stops_at

    @property
    def source(self) -> Checkpoint | None:
        """Another trial's checkpoint that it is at, because it has none of its own since."""
        return None if self.fork is None else self.fork.checkpoint

    @property
    def latest(self) -> Checkpoint | None:
        """The newest committed checkpoint."""
        return next(reversed(self.checkpoints.values()), None)


class WorkerState(msgspec.Struct):
    """A worker process.

    Attributes:
        trial_id: the trial it runs; None when it is idle or ending.
        request: what it was started for; it can run other trials that ask for the same.
        grant: resources that it holds while it has no trial.
        ending: it was told to end, or killed.
        loans: what trainers in its trial have been lent, by their numbers.
    """

    worker_id: str
    trial_id: str | None
    request: Request
    grant: Grant | None = None
    ending: bool = False
    loans: dict[int, Loan] = {}


class Deletion(msgspec.Struct):
    """A checkpoint that is being deleted; ``busy`` when a reader holds it for now."""

    path: str
    busy: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same during a run.

    Attributes:
        run_id: random; makes ids of attempts unique.
        root: the experiment's directory.
        kind: functions capture in ``report``; classes save when they are told to.
        max_failures: retries per trial; -1 without limit.
        restore_retries: so many failures in a row to start from a checkpoint do not count.
        fail_fast: the first failure ends the run.
        max_concurrent: how many trials run at once; None as many as fit.
        reuse: whether a worker may run one trial after another.
        save_every: class API: save when the iteration is a multiple; 0 never.
        save_at_end: class API: save when a trial ends.
        can_save: class API: trials can save at any time.
        count_preemption: a worker that is killed with the whole job, or whose machine goes away,
            has failed.
        max_preemptions: how often a trial may begin again for that otherwise; -1 without limit.
        retention: which checkpoints are worth keeping; None keeps all.
        rank_by: the metric that ranks checkpoints, if any.
        judged: somebody may stop a trial after a result, or is told of it before the trial goes on.
        validation: what the validation of a checkpoint needs; None where there is none.
    """

    run_id: str
    root: str = ""
    kind: Literal["function", "class"] = "function"
    max_failures: int = 0
    restore_retries: int = 0
    fail_fast: bool = False
    max_concurrent: int | None = None
    reuse: bool = False
    save_every: int = 0
    save_at_end: bool = False
    can_save: bool = False
    count_preemption: bool = False
    max_preemptions: int = -1
    retention: Policy | None = None
    rank_by: str | None = None
    judged: bool = True
    validation: Request | None = None


class RunState(msgspec.Struct):
    """All of it.

    Attributes:
        trials: those that have not ended, by id.
        workers: those that have not exited, by id.
        requests: number of waiting and paused trials by what they ask for.
        active: ids of trials that hold a slot.
        settling: ids of trials that wait for captured checkpoints.
        adopting: ids of trials that wait for another's checkpoint.
        offers: checkpoints that somebody holds, by the trial whose they are.
        orphans: paths of checkpoints of ended trials that go when nobody holds them any more, by
            (trial, index).
        results: offers that ended trials hold for good: their results refer to them.
        exploits: how often a trial went on from another's checkpoint, in all runs.
        told_of_none: it has been said that offered checkpoints were not reported.
        counts: number of trials by status, ended ones included.
        deletions: checkpoints being deleted, by (trial, index).
        validations: checkpoints that wait for their validation, in the order of their commits; the
            first may be under way.
        validator: the process that validates, until it has exited.
        validators_started: how many so far.
        returning: ids of restored trials that had been started and cannot yet start again.
        held: ids of trials that were never started; they wait until none is returning.
        borrowers: trainers in trials that wait for resources, in the order in which they asked.
        created: number of trials; ``next_order`` is the place of the next one, which is higher
            when trials of an earlier run were restarted as others.
        launched, workers_started: how many so far.
        search_ended: there will be no more trials.
        stopping: the whole run stops.
        stopped_by: what stops it, "budget" or "stopper"; "" for anything else.
        interrupted: the user asked to end the run early.
        unfinished: ids of trials that were cut short, and can go on later; ``unfinished_offers``
            what they offer, by id.
        failed_fast: a trial has failed for good, which ends the run.
        swept: busy deletions were tried a last time.
    """

    pool: Pool
    trials: dict[str, TrialState] = {}
    workers: dict[str, WorkerState] = {}
    queue: StartQueue = msgspec.field(default_factory=StartQueue)
    requests: dict[Request, int] = {}
    active: set[str] = set()
    settling: set[str] = set()
    adopting: set[str] = set()
    offers: dict[str, list[Offer]] = {}
    orphans: dict[tuple[str, int], str] = {}
    results: list[Offer] = []
    exploits: int = 0
    told_of_none: bool = False
    counts: dict[Status, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys((PENDING, RUNNING, PAUSED, TERMINATED, ERROR), 0)
    )
    deletions: dict[tuple[str, int], Deletion] = {}
    validations: list[Pending] = []
    validator: Validator | None = None
    validators_started: int = 0
    returning: set[str] = set()
    held: list[str] = []
    borrowers: list[Borrower] = []
    created: int = 0
    next_order: int = 0
    launched: int = 0
    workers_started: int = 0
    search_ended: bool = False
    stopping: bool = False
    stopped_by: str = ""
    interrupted: bool = False
    unfinished: set[str] = set()
    unfinished_offers: dict[str, Offer] = {}
    failed_fast: bool = False
    swept: bool = False
