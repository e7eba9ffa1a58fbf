"""How trials of an earlier run come back: they settle, choose their start, and wait in line.

Trials that had been started come before those that never were, so that work that was begun is
finished first. But which checkpoint a started one goes on from takes a while to find out; until
then the others are held.
"""

from __future__ import annotations

from milepost.control import commands, events, exploiting, settling, validating
from milepost.control.state import ERROR, PAUSED, PENDING, TERMINATED, Phase, TrialState
from milepost.control.step import Step
from milepost.journal import records

_NOT_READY = (Phase.SETTLING, Phase.PREPARING, Phase.ADOPTING)


def begin(step: Step, event: events.RunRestored) -> None:
    """Count the trials that stay as they are."""
    state = step.state
    for status, number in event.ended.items():
        state.counts[status] += number
        state.created += number
    state.next_order = event.next_order
    state.exploits = event.exploits


def revive(step: Step, event: events.TrialRestored) -> None:
    """Take in a trial of the earlier run; it goes to its goal once its captures are settled."""
    state = step.state
    never = None
    if event.goal in (PENDING, PAUSED):
        never = state.pool.why_never(event.request) or validating.why_never(
            state, step.settings, event.request
        )
    if never is not None:
        step.do(
            commands.Abort(
                f"Trial {event.name} can never go on: {never}. Give it less, or declare more with "
                "milepost.init(num_cpus=..., num_gpus=..., resources=...). Nothing is lost: what "
                "was committed stays, and the experiment can be restored again."
            )
        )
        return
    trial = TrialState(
        trial_id=event.trial_id,
        order=event.order,
        name=event.name,
        directory=event.directory,
        request=event.request,
        status=event.status,
        phase=Phase.PREPARING,
        most=event.most,
        size=event.size,
        attempt=event.attempt,
        next_index=event.next_index,
        failures=event.failures,
        iteration=event.iteration,
        row=event.row,
        score=event.score,
        inflight=dict(event.inflight),
        checkpoints={checkpoint.index: checkpoint for checkpoint in event.checkpoints},
        unclean=event.unclean,
        unverified=True,
        needs_last_save=event.needs_last_save,
        absolved=event.goal == ERROR,
        goal=event.goal,
        floor=event.floor,
        generation=event.generation,
    )
    state.created += 1
    state.counts[trial.status] += 1
    state.trials[trial.trial_id] = trial
    for index, task in event.validations:
        validating.await_outcome(step, trial, index, task)
    for index, reason in event.missing:
        _lose(step, trial, index, reason)
    if event.offered is not None:
        exploiting.offered_before(step, trial, *event.offered)
    if event.fork is not None:
        exploiting.forked_before(step, trial, *event.fork)
    if trial.status in (TERMINATED, ERROR):
        step.set_status(trial, PENDING)  # others stay RUNNING until all that they did is known
    if event.attempt >= 0:
        state.returning.add(trial.trial_id)
    elif event.goal == PENDING:  # it has captured nothing, and new trials must not get in before it
        settling.settle(step, trial)
        return
    settling.drain(step, trial, all_attempts=True)


def _lose(step: Step, trial: TrialState, index: int, reason: str) -> None:
    exploiting.lost(step, trial.trial_id, index)
    step.record(
        records.Lost(
            at=step.at, trial=trial.trial_id, attempt=trial.attempt, index=index, reason=reason
        )
    )


def release(step: Step) -> None:
    """Let trials that are held wait for resources, once no restored one is on its way."""
    state = step.state
    state.returning = {
        trial_id
        for trial_id in state.returning
        if trial_id in state.trials and state.trials[trial_id].phase in _NOT_READY
    }
    if state.returning:
        return
    held, state.held = state.held, []
    for trial_id in held:
        trial = state.trials.get(trial_id)
        if trial is not None and trial.phase is Phase.PREPARING:
            settling.ready(step, trial)
