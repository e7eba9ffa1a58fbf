"""What becomes of a trial whose attempt or checkpoint failed."""

from __future__ import annotations

from milepost.control import commands, events, exploiting, settling
from milepost.control.events import Problem
from milepost.control.state import ERROR, PENDING, TERMINATED, Halt, Phase, TrialState
from milepost.control.step import Step
from milepost.journal import records

_LOST = "CheckpointFailedError"

# The engine may die for the same reason each time: because of what the trial does.
_COUNTS_FROM = 3


def fail(step: Step, trial: TrialState, problem: Problem) -> None:
    """An attempt failed: try again if that is allowed and makes sense, else give the trial up."""
    if problem.engine_died and _is_bystander(step, trial):
        _go_on(step, trial, problem)
        return
    if _is_excused(step, trial):
        trial.restore_failures += 1
    else:
        trial.failures += 1
    _has_failed(step, trial, problem, retried=_is_retried(step, trial, problem))


def give_up(step: Step, trial: TrialState, problem: Problem) -> None:
    """A trial cannot go on, although no attempt of it has failed."""
    _has_failed(step, trial, problem, retried=False)


def _has_failed(step: Step, trial: TrialState, problem: Problem, *, retried: bool) -> None:
    trial.starved = problem.storage_full or trial.storage_full
    trial.unclean = True
    step.record(
        records.Failure(
            at=step.at,
            trial=trial.trial_id,
            attempt=trial.attempt,
            failures=trial.failures,
            kind=problem.kind,
            message=problem.message,
            traceback=problem.traceback,
            retried=retried,
            error=problem.error,
        )
    )
    if retried:
        trial.goal, trial.recovering = PENDING, True
        step.set_status(trial, PENDING)
    else:
        trial.goal = ERROR
        step.state.failed_fast |= step.settings.fail_fast
    step.do(
        commands.TrialFailed(
            trial_id=trial.trial_id, problem=problem, failures=trial.failures, retried=retried
        )
    )
    settling.drain(step, trial)


def _is_bystander(step: Step, trial: TrialState) -> bool:
    """Whether the death of the engine's process, which took the trial along, does not count."""
    trial.engine_deaths += 1
    if step.settings.count_preemption or trial.lost is not None:
        return False
    return trial.engine_deaths < _COUNTS_FROM


def _go_on(step: Step, trial: TrialState, problem: Problem) -> None:
    """An attempt was cut short by nothing that the trial did: it goes on where it can."""
    trial.unclean = True
    if step.state.stopping or trial.halt in (Halt.STOP, Halt.END):
        trial.goal, trial.quiet = TERMINATED, trial.halt is not Halt.STOP
        what_now = "it was to stop, and has"
    else:
        trial.goal = PENDING
        step.set_status(trial, PENDING)
        what_now = "it starts again from its latest checkpoint, if it has one"
    step.warn(
        f"Trial {trial.name} was cut short, which does not count as a failure; {what_now}: "
        f"{problem.message}"
    )
    settling.drain(step, trial)


def _is_excused(step: Step, trial: TrialState) -> bool:
    """Whether it only could not start from its checkpoint, which may be the storage's fault."""
    restoring = trial.phase is Phase.STARTING and trial.start is not None
    return restoring and trial.restore_failures < step.settings.restore_retries


def _is_retried(step: Step, trial: TrialState, problem: Problem) -> bool:
    limit = step.settings.max_failures
    if problem.abort or step.state.stopping or trial.halt in (Halt.STOP, Halt.END):
        return False
    if limit >= 0:
        return trial.failures <= limit
    # Without a limit, a full disk would be retried for ever.
    return not (trial.starved and problem.kind == _LOST)


def lost_problem(trial: TrialState, reason: str) -> Problem:
    """Why a trial failed whose captured checkpoint could not be committed."""
    return Problem(kind=_LOST, message=reason, storage_full=trial.storage_full)


def commit_failed(step: Step, event: events.CommitFailed) -> None:
    """A captured checkpoint is lost: the trial fails, at its next report or at its end."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None:
        return
    if trial.inflight.pop(event.index, None) is None and event.index < trial.next_index:
        return  # a keeper that was replaced had told of it before
    exploiting.lost(step, trial.trial_id, event.index)
    step.record(
        records.Lost(
            at=event.at,
            trial=trial.trial_id,
            attempt=event.attempt,
            index=event.index,
            reason=event.error,
        )
    )
    trial.next_index = max(trial.next_index, event.index + 1)
    if event.attempt != trial.attempt or trial.draining:
        # That attempt has failed already; it is not failed twice.
        trial.starved |= event.storage_full
        step.warn(f"Trial {trial.name}: checkpoint {event.index:06d} is lost: {event.error}")
    elif trial.phase is Phase.SETTLING:
        trial.storage_full = event.storage_full
        fail(step, trial, lost_problem(trial, event.error))
    else:
        trial.lost, trial.storage_full = event.error, event.storage_full
        step.attend(trial)
