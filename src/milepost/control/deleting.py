"""Which committed checkpoints go, and what becomes of deleting them."""

from __future__ import annotations

from milepost.checkpoint import retention
from milepost.control import commands, events
from milepost.control.state import Deletion, TrialState
from milepost.control.step import Step
from milepost.journal import records


def retain(step: Step, trial: TrialState) -> None:
    """Delete what is no longer worth keeping, and try again what a reader held."""
    policy = step.settings.retention
    if policy is not None and not trial.unverified:
        by = step.settings.rank_by
        plan = retention.plan(
            [
                retention.Entry(
                    index=c.index,
                    iteration=c.iteration,
                    metrics={by: c.score} if by is not None else {},
                )
                for c in trial.checkpoints.values()
            ],
            policy,
        )
        for index in plan.drop:
            _delete(step, trial, index, plan.reasons[index])
    for (trial_id, index), deletion in step.state.deletions.items():
        if deletion.busy and trial_id == trial.trial_id:
            _ask_again(step, trial_id, index, deletion)


def _delete(step: Step, trial: TrialState, index: int, reason: str) -> None:
    path = trial.checkpoints.pop(index).path
    step.record(records.Deleting(at=step.at, trial=trial.trial_id, index=index, reason=reason))
    step.state.deletions[trial.trial_id, index] = Deletion(path)
    step.do(commands.Delete(trial_id=trial.trial_id, index=index, path=path))


def left(step: Step, event: events.DeletionLeft) -> None:
    """Go on with a deletion of an earlier run."""
    step.state.deletions[event.trial_id, event.index] = Deletion(event.path)
    step.do(commands.Delete(trial_id=event.trial_id, index=event.index, path=event.path))


def _ask_again(step: Step, trial_id: str, index: int, deletion: Deletion) -> None:
    deletion.busy = False
    step.do(commands.Delete(trial_id=trial_id, index=index, path=deletion.path))


def deleted(step: Step, event: events.Deleted) -> None:
    """The keeper answered a deletion."""
    key = (event.trial_id, event.index)
    deletion = step.state.deletions.get(key)
    if deletion is None:
        return
    if event.outcome in ("deleted", "gone"):
        del step.state.deletions[key]
        step.record(records.Deleted(at=event.at, trial=event.trial_id, index=event.index))
        return
    if step.state.swept:
        del step.state.deletions[key]
        step.warn(
            f"Checkpoint {deletion.path} is not needed any more but stays on disk: "
            f"{event.reason or 'a reader holds it'}."
        )
    else:
        deletion.busy = True


def sweep(step: Step) -> None:
    """At the end of the run, try once more to delete what was busy."""
    step.state.swept = True
    for (trial_id, index), deletion in step.state.deletions.items():
        if deletion.busy:
            _ask_again(step, trial_id, index, deletion)
