"""Which checkpoint is validated next, and what comes of it: one at a time, in order of commits.

A checkpoint whose validation is pending is pinned, and its trial ends only afterwards; training
never waits. When the user ends the run, what is under way is cancelled and stays pending.
"""

from __future__ import annotations

import msgspec

from milepost.checkpoint.validation import Task
from milepost.control import commands, deleting, events
from milepost.control.checkpoints import Pending, Validator
from milepost.control.resources import Request
from milepost.control.state import Phase, RunState, Settings, TrialState
from milepost.control.step import Step
from milepost.journal import records


def await_outcome(step: Step, trial: TrialState, index: int, task: Task) -> None:
    """A checkpoint is committed that is to be validated."""
    if step.settings.validation is None:
        step.do(
            commands.Abort(
                f"checkpoint {index:06d} of trial {trial.name} waits for its validation, and there "
                "is no function for that. Give the trainer a validation_config; the checkpoint is "
                "kept until then."
            )
        )
        return
    step.state.validations.append(Pending(trial.trial_id, index, task))


def is_pending(state: RunState, trial_id: str) -> bool:
    """Whether checkpoints of a trial wait for their validation."""
    return any(each.trial_id == trial_id for each in state.validations)


def why_never(state: RunState, settings: Settings, request: Request) -> str | None:
    """Why checkpoints of a trial could never be validated while it runs; None if they can."""
    if settings.validation is None:
        return None
    both = Request((*request.bundles, *settings.validation.bundles))
    never = state.pool.why_never(both)
    if never is None:
        return None
    return (
        f"together with the validation of its checkpoints, which needs {settings.validation}, "
        f"{never}. Ask for less in ValidationConfig(ray_remote_kwargs=...)"
    )


def leaves_room(state: RunState, settings: Settings, request: Request) -> bool:
    """Whether a request can be met and a validation beside it, by what is free now.

    Trials take no more than that: validations would wait for their end, and they perhaps for
    validations.
    """
    needs = () if settings.validation is None else settings.validation.bundles
    if state.validator is not None:
        needs = ()  # it has what it needs
    return state.pool.fits(Request((*request.bundles, *needs)))


def advance(step: Step) -> None:
    """Start the next validation, if none is under way; trials have left free what it needs."""
    state, request = step.state, step.settings.validation
    if state.interrupted or state.validator is not None or not state.validations:
        return
    assert request is not None
    grant = state.pool.acquire(request)
    if grant is None:
        return
    first = state.validations[0]
    trial = state.trials[first.trial_id]
    state.validator = Validator(f"validator-{state.validators_started}", first, grant)
    state.validators_started += 1
    step.do(
        commands.Validate(
            worker_id=state.validator.worker_id,
            trial_id=first.trial_id,
            checkpoint=trial.checkpoints[first.index],
            task=first.task,
            # As many threads as a worker has, unless something else was asked for: then the
            # process is forked from where the workers are.
            cpus=request.cpus(0) or trial.request.cpus(0),
            gpus=grant.gpu_ids(0),
        )
    )


def ended(step: Step, event: events.ValidationEnded) -> TrialState | None:
    """Write an outcome down, and rank the checkpoint anew; return its trial.

    None if nobody waits for it any more.
    """
    validator = step.state.validator
    if validator is None or validator.worker_id != event.worker_id or validator.over:
        return None
    validator.over = True
    pending = validator.of
    step.state.validations.remove(pending)
    trial = step.state.trials[pending.trial_id]
    checkpoint = trial.checkpoints[pending.index]
    trial.checkpoints[pending.index] = msgspec.structs.replace(
        checkpoint, row=event.row, score=event.score
    )
    # First there, then on record: what is on record is not done again.
    step.do(
        commands.PublishOutcome(
            trial_id=pending.trial_id, checkpoint=checkpoint, outcome=event.outcome
        )
    )
    step.record(
        records.Validated(
            at=event.at,
            trial=pending.trial_id,
            index=pending.index,
            status=event.outcome.status,
            metrics=event.outcome.metrics,
            reason=event.outcome.reason,
        )
    )
    _tell(step, trial, pending.index, event)
    if trial.phase is not Phase.PREPARING:  # it may be about to go on from it
        deleting.retain(step, trial)
    return trial


def _tell(step: Step, trial: TrialState, index: int, event: events.ValidationEnded) -> None:
    outcome = event.outcome
    if outcome.status == "VALIDATED":
        left = len(step.state.validations)
        more = f"; {left} more to go" if left else ""
        step.info(f"Trial {trial.name}: checkpoint {index:06d} is validated{more}.")
    else:
        step.warn(
            f"Trial {trial.name}: the validation of checkpoint {index:06d} has failed, and it "
            f"keeps the metrics that it was reported with: {outcome.reason}"
        )


def gone(step: Step, event: events.ValidatorGone) -> None:
    """The process has exited; only now is what it held free."""
    validator = step.state.validator
    if validator is not None and validator.worker_id == event.worker_id:
        step.state.pool.release(validator.grant)
        step.state.validator = None


def lost(step: Step, trial_id: str, index: int) -> None:
    """A checkpoint turned out to be damaged, so nobody validates it."""
    step.state.validations = [
        each for each in step.state.validations if (each.trial_id, each.index) != (trial_id, index)
    ]
    validator = step.state.validator
    if validator is not None and validator.of not in step.state.validations:
        _cancel(step, validator)


def interrupt(step: Step) -> None:
    """The run ends early: what is under way is done once more when the run goes on."""
    if step.state.validator is not None:
        _cancel(step, step.state.validator)


def _cancel(step: Step, validator: Validator) -> None:
    if not validator.over:
        validator.over = True
        step.do(commands.CancelValidation(validator.worker_id))
