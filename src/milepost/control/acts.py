"""Carries out the machine's commands."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

from milepost.checkpoint.handle import Checkpoint
from milepost.control import commands, late_reports, validator
from milepost.control.metrics import flatten
from milepost.control.repetition import Repetition
from milepost.control.rounds import Rounds
from milepost.errors import CheckpointFailedError, TuneError
from milepost.journal import records
from milepost.storage import posix
from milepost.worker import protocol
from milepost.worker.protocol import Counters, Reply, dump

if TYPE_CHECKING:
    from milepost.control.events import Problem
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")


def _record(run: Run, command: commands.Record) -> None:
    # A report is answered first: its answer wakes the flush.
    run.seq = run.journal.append(
        command.record, wake=not isinstance(command.record, records.Reported)
    )
    if isinstance(command.record, records.Committed):
        run.tally.committed_count += 1
        run.tally.committed_bytes += command.record.nbytes


# --- workers --------------------------------------------------------------------------------


def _start_worker(run: Run, command: commands.StartWorker) -> None:
    name = run.ledger.live[command.trial_id].name
    run.workers.start(command.worker_id, name=name, cpus=command.cpus, gpus=command.gpus)


def _run_trial(run: Run, command: commands.RunTrial) -> None:
    trial = run.ledger.live[command.trial_id]
    counters = Counters()
    start_from = run.plan.initial_checkpoint
    run.journal.require_held()  # a driver that was stopped may have been replaced since
    posix.make_below(run.plan.experiment.path, trial.directory)
    if command.start is not None:
        start_from = command.start.path
        row = run.decoded(command.start.row)
        counters = _counters(row)
        trial.last_row = {
            **row,
            "trial_id": trial.trial_id,  # the row may be another trial's
            "config": trial.config,
            "experiment_tag": trial.tag,
        }
    trial.repetition.begin()
    if command.rank == 0:
        trial.rounds = Rounds(command.size)
        if command.size > 1:
            run.meetings.begin(trial.trial_id, command.size)
        if run.plan.watch is not None:
            run.plan.watch.begins()
    run.prints(command.worker_id, trial)
    run.workers.send(
        command.worker_id,
        protocol.RunTrial(
            kind=run.plan.kind,
            trial_id=trial.trial_id,
            trial_name=trial.name,
            trial_dir=trial.directory,
            config=dump(trial.config),
            attempt=command.attempt,
            attempt_id=command.attempt_id,
            first_index=command.first_index,
            storage=run.storage,
            start_from=start_from,
            parent=command.parent,
            counters=counters,
            resources=dump(trial.resources),
            chdir=run.plan.chdir,
            reset=command.reset,
            reusable=run.plan.reuse_actors,
            rank=command.rank,
            world_size=command.size,
            watched=run.silence.limit_s is not None,
            judged=run.machine.settings.judged,
            grouped=run.plan.group is not None,
        ),
    )
    run.must_speak(command.worker_id)


def _counters(row: dict[str, Any]) -> Counters:
    iteration = row.get("training_iteration")
    return Counters(
        training_iteration=int(iteration) if isinstance(iteration, Integral) else 0,
        time_total_s=row.get("time_total_s") or 0.0,
        timesteps_total=row.get("timesteps_total"),
        episodes_total=row.get("episodes_total"),
    )


def _answer(run: Run, command: commands.Answer) -> None:
    if command.awaited:
        run.workers.send(command.worker_id, Reply(command.action, command.save))
    else:
        run.workers.recorded(command.worker_id)
    run.journal.wake()
    if command.action == "continue" or command.save:
        run.must_speak(command.worker_id)
    else:
        trial_id = run.machine.state.workers[command.worker_id].trial_id
        if trial_id is not None:
            run.must_obey(command.worker_id, trial_id)


def _attend(run: Run, command: commands.Attend) -> None:
    run.workers.send(command.worker_id, protocol.Attend())


def _preempt(run: Run, command: commands.Preempt) -> None:
    run.workers.send(
        command.worker_id,
        protocol.Preempt(command.reason, command.deadline_ms, command.ranks),
    )


def _lend(run: Run, command: commands.Lend) -> None:
    lent = protocol.Lent(command.number, command.size, command.gpus, command.why)
    run.workers.send(command.worker_id, lent)
    run.must_speak(command.worker_id)


def _end_worker(run: Run, command: commands.EndWorker) -> None:
    run.workers.end(command.worker_id)


def _kill_worker(run: Run, command: commands.KillWorker) -> None:
    run.workers.kill(command.worker_id)


# --- checkpoints ----------------------------------------------------------------------------


def _drain(run: Run, command: commands.Drain) -> None:
    run.keeper.drain(command.trial_id, command.attempt)


def _delete(run: Run, command: commands.Delete) -> None:
    run.deletions.add(run.seq, command)


def _verify(run: Run, command: commands.Verify) -> None:
    run.verifier.choose(
        (command.trial_id, command.ticket),
        os.path.dirname(command.candidates[0].path),
        {os.path.basename(each.path): each.index for each in command.candidates},
        contents=command.contents,
    )


def _validate(run: Run, command: commands.Validate) -> None:
    run.validator.start(command)


def _cancel_validation(run: Run, command: commands.CancelValidation) -> None:
    run.validator.cancel()


def _checkpoint_kept(run: Run, command: commands.CheckpointKept) -> None:
    trial = run.ledger.facade(command.trial_id)
    run.hooks.checkpoint(trial, Checkpoint.from_directory(command.checkpoint.path))
    if run.plan.watch is not None:
        run.plan.watch.committed(command.checkpoint.index, command.checkpoint.path)


# --- trials ---------------------------------------------------------------------------------


def _trial_exploited(run: Run, command: commands.TrialExploited) -> None:
    trial = run.ledger.live[command.trial_id]
    trial.config, trial.raw_config = run.decoded(command.config), command.config
    trial.tag = command.tag
    trial.repetition = Repetition()  # with other weights every result is new
    target, donor = run.ledger.facade(command.trial_id), run.ledger.facade(command.donor_id)
    run.plan.scheduler.on_trial_exploit(run.control, target, donor)


def _trial_failed(run: Run, command: commands.TrialFailed) -> None:
    trial = run.ledger.live[command.trial_id]
    trial.error = _error_of(run, command.problem)
    if os.environ.get("TUNE_PRINT_ALL_TRIAL_ERRORS", "1") != "0":
        what_now = "it goes on" if command.retried else "it is given up"
        log.error(
            "Trial %s failed (failure %d), %s: %s",
            trial.name,
            command.failures,
            what_now,
            command.problem.traceback or command.problem.message,
        )
    if not command.retried:
        if run.plan.failure.fail_fast:
            run.plan.search.set_finished()
        return
    trial.repetition = Repetition()  # the scheduler takes it for a new one
    facade = run.ledger.facade(command.trial_id)
    run.plan.scheduler.on_trial_error(run.control, facade)
    run.plan.scheduler.on_trial_add(run.control, facade)


def _error_of(run: Run, problem: Problem) -> Exception | str:
    """What users get for a failure."""
    if problem.abort:
        return problem.message
    if problem.error is not None:
        error: Exception = pickle.loads(run.objects.get(problem.error))
        return error
    return CheckpointFailedError(problem.message)


def _trial_recovered(run: Run, command: commands.TrialRecovered) -> None:
    run.hooks.fire("on_trial_recover", trial=run.ledger.facade(command.trial_id))


def _trial_completed(run: Run, command: commands.TrialCompleted) -> None:
    trial = run.ledger.facade(command.trial_id)
    flat = flatten(trial.last_result) if command.ran else None
    if flat is not None:
        run.plan.scheduler.on_trial_complete(run.control, trial, flat)
    else:
        run.plan.scheduler.on_trial_remove(run.control, trial)
    run.informant.end(command.trial_id, flat)
    run.hooks.fire("on_trial_complete", trial=trial)


def _trial_errored(run: Run, command: commands.TrialErrored) -> None:
    run.tally.failed.append(command.trial_id)
    trial = run.ledger.facade(command.trial_id)
    run.plan.scheduler.on_trial_error(run.control, trial)
    run.informant.end(command.trial_id, error=True)
    run.hooks.fire("on_trial_error", trial=trial)
    error = trial.get_error()
    if run.plan.failure.fail_fast == "raise" and error is not None and not command.absolved:
        raise error if isinstance(error, Exception) else TuneError(error)


def _trial_ended(run: Run, command: commands.TrialEnded) -> None:
    run.ledger.end(command.trial_id)


# --- the run --------------------------------------------------------------------------------


def _notice(run: Run, command: commands.Notice) -> None:
    log.log(logging.WARNING if command.level == "warning" else logging.INFO, "%s", command.text)


def _abort(run: Run, command: commands.Abort) -> None:
    raise TuneError(command.reason)


ACTS: dict[type, Callable[[Run, Any], None]] = {
    commands.Record: _record,
    commands.StartWorker: _start_worker,
    commands.RunTrial: _run_trial,
    commands.Answer: _answer,
    commands.Attend: _attend,
    commands.Preempt: _preempt,
    commands.Lend: _lend,
    commands.EndWorker: _end_worker,
    commands.KillWorker: _kill_worker,
    commands.Drain: _drain,
    commands.Delete: _delete,
    commands.Verify: _verify,
    commands.Validate: _validate,
    commands.PublishOutcome: validator.publish,
    commands.CancelValidation: _cancel_validation,
    commands.Judge: late_reports.judge,
    commands.CheckpointKept: _checkpoint_kept,
    commands.TrialExploited: _trial_exploited,
    commands.TrialFailed: _trial_failed,
    commands.TrialRecovered: _trial_recovered,
    commands.TrialCompleted: _trial_completed,
    commands.TrialErrored: _trial_errored,
    commands.TrialEnded: _trial_ended,
    commands.Notice: _notice,
    commands.Abort: _abort,
}
