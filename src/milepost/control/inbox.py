"""What workers and the keeper say, turned into events."""

from __future__ import annotations

import errno
import logging
import os
import time
from numbers import Integral
from typing import TYPE_CHECKING, Any

from milepost.api.fields import DONE, TRAINING_ITERATION
from milepost.control import convening, events, preempting, problems, signalled
from milepost.control.judge import Verdict
from milepost.control.resources import request_of
from milepost.control.rounds import combined
from milepost.control.state import Halt, Phase
from milepost.engine.protocol import Exited, StartFailed
from milepost.errors import StorageError
from milepost.keeper import protocol as keeper
from milepost.worker.protocol import (
    Borrow,
    Busy,
    Failed,
    Finished,
    FromWorker,
    GiveBack,
    Meet,
    Preempting,
    Reported,
    Saved,
    Started,
    load,
)

if TYPE_CHECKING:
    from milepost.control.ledger import LiveTrial
    from milepost.control.run import Run
    from milepost.control.state import TrialState

log = logging.getLogger("milepost.control")
_keeper_log = logging.getLogger("milepost.keeper")

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def from_worker(run: Run, worker_id: str, message: FromWorker) -> None:
    """Take in one message of a worker."""
    if run.validator.is_at(worker_id):
        run.validator.hear(message)
        return
    worker = run.machine.state.workers.get(worker_id)
    state = run.machine.trials.get(worker.trial_id or "") if worker is not None else None
    if state is None:
        return  # its trial has ended or was taken from it
    trial = run.ledger.live[state.trial_id]
    if isinstance(message, Reported):
        _reported(run, worker_id, state, trial, message)
    elif isinstance(message, Started):
        _started(run, worker_id, state, trial, message)
    elif isinstance(message, Saved):
        run.dispatch(events.Saved(at=run.now(), worker_id=worker_id, index=message.index))
        if state.phase is Phase.STOPPING:  # saving may take its time; obeying may not
            run.must_obey(worker_id, state.trial_id)
        else:
            run.must_speak(worker_id)
    elif isinstance(message, Busy):
        if message.busy:
            run.silence.excuse(worker_id)
        else:
            run.must_speak(worker_id)
    elif isinstance(message, Preempting):
        preempting.told(run, worker_id, state, message.reason)
    elif isinstance(message, Borrow):
        run.silence.excuse(worker_id)  # it waits for others
        run.dispatch(
            events.BorrowAsked(
                at=run.now(),
                worker_id=worker_id,
                number=message.number,
                most=request_of(message.bundles),
                least=message.least,
            )
        )
    elif isinstance(message, GiveBack):
        returned = events.LoanReturned(at=run.now(), worker_id=worker_id, number=message.number)
        run.dispatch(returned)
    elif isinstance(message, Meet):
        convening.say(run, worker_id, message)
    elif isinstance(message, Finished):
        convening.left(run, worker_id)
        is_last = len(state.finished) == state.size - 1
        if message.reason == "returned" and is_last:
            _returned(run, state, trial)
        if run.plan.watch is not None and message.value:
            run.plan.watch.returned(state.workers.index(worker_id), message.value)
        run.quiet(worker_id)
        run.dispatch(events.Finished(at=run.now(), worker_id=worker_id, reason=message.reason))
    elif isinstance(message, Failed):
        run.quiet(worker_id)
        run.meetings.end(state.trial_id)  # the others are killed, and wait for nothing
        problem = signalled.took(problems.of_failure(run, message), message)
        _tell_of_failure(run, state, worker_id, problem)
        failed = events.WorkerFailed(at=run.now(), worker_id=worker_id, problem=problem)
        signalled.told(run, failed, message)


def _started(
    run: Run, worker_id: str, state: TrialState, trial: LiveTrial, message: Started
) -> None:
    trial.where = {
        "pid": message.pid,
        "hostname": message.hostname,
        "node_ip": message.node_ip,
    }
    if state.phase is Phase.STARTING and worker_id == state.workers[0]:
        if trial.start_time is None:
            trial.start_time = run.now()
        run.hooks.fire("on_trial_start", trial=run.ledger.facade(trial.trial_id))
    run.dispatch(events.WorkerStarted(at=run.now(), worker_id=worker_id))
    run.must_speak(worker_id)


def _reported(
    run: Run, worker_id: str, state: TrialState, trial: LiveTrial, message: Reported
) -> None:
    if state.phase is not Phase.TRAINING:
        # Nothing is judged or recorded any more; the machine knows what to answer.
        run.dispatch(events.Reported(at=run.now(), worker_id=worker_id, iteration=0, row=state.row))
        return
    reports = trial.rounds.add(state.workers.index(worker_id), message)
    if reports is None:
        signalled.completed(run, trial.trial_id)
        return  # others have not come so far
    message = combined(reports)
    try:
        row: dict[str, Any] = load(message.row)
    except Exception as error:  # noqa: BLE001 - runs code of users
        problem = problems.of_unreadable(run, trial, error)
        run.dispatch(events.WorkerFailed(at=run.now(), worker_id=worker_id, problem=problem))
        return
    row["config"] = trial.config
    counted = row.get(TRAINING_ITERATION)
    iteration = int(counted) if isinstance(counted, Integral) else state.iteration + 1
    is_known = trial.repetition.has(iteration)
    facade = run.ledger.facade(trial.trial_id)
    verdict = Verdict("continue")
    if state.halt is Halt.STOP:  # for the scheduler, which did that, it has ended already
        row[DONE] = True
    elif state.halt is not Halt.END:
        verdict = run.judge.judge(facade, row, is_known=is_known)
        if state.is_to_stop(iteration):
            row[DONE] = True
    run.hooks.fire("on_trial_result", trial=facade, result=row)
    trial.last_row, trial.last_time = row, run.now()
    run.dispatch(
        events.Reported(
            at=trial.last_time,
            worker_id=worker_id,
            iteration=iteration,
            row=run.encoded({key: value for key, value in row.items() if key != "config"}),
            score=run.score(row),
            action=verdict.action,
            by_condition=verdict.by_condition,
            save=bool(row.get("should_checkpoint")),
            checkpoint=message.checkpoint,
            asks=message.asks,
            awaited=message.awaited,
        )
    )
    if run.plan.watch is not None:
        run.plan.watch.reported(tuple(each.row for each in reports), message.checkpoint)
    signalled.completed(run, trial.trial_id)
    row["experiment_tag"] = trial.tag
    # After the reply, so that user code goes on meanwhile.
    trial.metrics.add(row)
    if run.plan.metric is not None:
        run.tally.offer(trial.trial_id, trial.metrics.last(run.plan.metric))


def _returned(run: Run, state: TrialState, trial: LiveTrial) -> None:
    """A function has returned: as in Ray, its last result is ``done`` and stoppers see it again."""
    if state.phase is not Phase.TRAINING or state.halt is Halt.END:
        return
    row = trial.last_row
    if TRAINING_ITERATION not in row:
        now = run.now()
        row = trial.last_row = {
            "trial_id": trial.trial_id,
            "date": time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now)),
            "timestamp": int(now),
            **trial.where,
            "config": trial.config,
        }
        run.judge.check_metrics(row)
    row[DONE] = True
    run.judge.ends(trial.trial_id, row)
    row["experiment_tag"] = trial.tag


def _tell_of_failure(run: Run, state: TrialState, worker_id: str, problem: events.Problem) -> None:
    """Tell whoever watches single workers which one has failed, and why."""
    if run.plan.watch is None or worker_id not in state.workers:
        return
    error = problems.recorded(
        problem.kind, problem.message, problem.traceback, problem.error, run.objects.get
    )
    run.plan.watch.failed(state.workers.index(worker_id), error)


# --- the engine -----------------------------------------------------------------------------


def from_engine(run: Run, event: Exited | StartFailed) -> None:
    """A worker has ended, or never began."""
    worker_id = event.worker_id
    for message in run.workers.gone(worker_id):
        from_worker(run, worker_id, message)
    run.left(worker_id)
    if run.validator.is_at(worker_id):
        run.validator.left(event)
        return
    worker = run.machine.state.workers.get(worker_id)
    state = run.machine.trials.get(worker.trial_id or "") if worker is not None else None
    trial = None  # whom nobody will be told about
    if state is not None and state.phase is not Phase.DYING:
        trial = run.ledger.live[state.trial_id]
        run.meetings.end(state.trial_id)
        preempting.ended(run, worker_id, state, event)
    problem = signalled.took(problems.of_death(run, event, trial), event)
    if state is not None and trial is not None:
        _tell_of_failure(run, state, worker_id, problem)
    gone = events.WorkerGone(at=run.now(), worker_id=worker_id, problem=problem)
    signalled.told(run, gone, event)
    run.last_words.forget(worker_id)


# --- the keeper -----------------------------------------------------------------------------


def from_keeper(run: Run, event: keeper.KeeperEvent) -> None:
    """Take in one event of the keeper."""
    now = run.now()
    if isinstance(event, keeper.Committed):
        run.dispatch(
            events.Committed(
                at=now,
                trial_id=event.trial_id,
                attempt=event.attempt,
                index=event.index,
                iteration=event.iteration,
                path=event.path,
                nbytes=event.nbytes,
                digest=event.digest,
                row=event.row,
                score=_manifest_score(run, event),
                validation=event.validation,
            )
        )
    elif isinstance(event, keeper.CommitFailed):
        _require_storage(run, event)
        run.dispatch(
            events.CommitFailed(
                at=now,
                trial_id=event.trial_id,
                attempt=event.attempt,
                index=event.index,
                error=event.error,
                storage_full=event.disk_full,
            )
        )
    elif isinstance(event, keeper.Drained):
        run.dispatch(
            events.Drained(
                at=now,
                trial_id=event.trial_id,
                attempt=event.attempt,
                highest_index=event.highest_index,
            )
        )
    elif isinstance(event, keeper.Deleted):
        run.dispatch(
            events.Deleted(
                at=now,
                trial_id=event.trial_id,
                index=event.index,
                outcome=event.outcome,
                reason=event.reason,
            )
        )
    elif isinstance(event, keeper.Notice):
        _keeper_log.log(_LEVELS.get(event.level, logging.WARNING), "%s", event.text)


def _require_storage(run: Run, event: keeper.CommitFailed) -> None:
    """A commit fails for good only if it is not the whole experiment that is missing.

    Nothing of that is recorded, as restoring commits what was captured.

    Raises:
        StorageError: the experiment's directory was moved or deleted, or cannot be reached.
    """
    home = run.plan.experiment.home
    if not os.path.isdir(home):
        raise StorageError(errno.ENOENT, f"{event.error}; the run cannot go on without it", home)


def _manifest_score(run: Run, event: keeper.Committed) -> object:
    """The score of a checkpoint whose report never arrived; otherwise the report has it."""
    by = run.machine.settings.rank_by
    state = run.machine.trials.get(event.trial_id)
    if by is None or state is None or event.index in state.inflight:
        return None
    return run.score(run.decoded(event.row))
