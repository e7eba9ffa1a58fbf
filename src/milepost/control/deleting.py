"""Which committed checkpoints go, and what becomes of deleting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from milepost.checkpoint import retention
from milepost.control import commands, events
from milepost.control.state import Deletion, Phase, RunState, TrialState
from milepost.control.step import Step
from milepost.journal import records

_NOTHING: Final = retention.Plan((), (), {})


def retain(step: Step, trial: TrialState) -> None:
    """Delete what is no longer worth keeping, and try again what a reader held."""
    _drop(step, trial)
    for (trial_id, index), deletion in step.state.deletions.items():
        if deletion.busy and trial_id == trial.trial_id:
            _ask_again(step, trial_id, index, deletion)


def _drop(step: Step, trial: TrialState) -> None:
    plan = _plan(step, trial, pins(step.state, trial.trial_id))
    for index in plan.drop:
        path = trial.checkpoints.pop(index).path
        _delete(step, trial.trial_id, index, path, plan.reasons[index])


def _plan(step: Step, trial: TrialState, pinned: Mapping[int, str]) -> retention.Plan:
    policy = step.settings.retention
    if policy is None or trial.unverified:
        return _NOTHING
    by = step.settings.rank_by
    entries = [
        retention.Entry(
            index=c.index,
            iteration=c.iteration,
            metrics={by: c.score} if by is not None else {},
        )
        for c in trial.checkpoints.values()
    ]
    return retention.plan(entries, policy, pinned)


def _delete(step: Step, trial_id: str, index: int, path: str, reason: str) -> None:
    step.record(records.Deleting(at=step.at, trial=trial_id, index=index, reason=reason))
    step.state.deletions[trial_id, index] = Deletion(path)
    step.do(commands.Delete(trial_id=trial_id, index=index, path=path))


def pins(state: RunState, trial_id: str) -> dict[int, str]:
    """The checkpoints of a trial that are needed whatever they are worth, each with the reason."""
    return {
        pending.index: "its validation is pending"
        for pending in state.validations
        if pending.trial_id == trial_id
    } | {
        offer.checkpoint.index: "another trial goes on from it, or may"
        for offer in state.offers.get(trial_id, ())
        if offer.checkpoint is not None
    }


def unpinned(step: Step, trial_id: str, index: int) -> None:
    """Nobody holds a checkpoint any more for the sake of another trial."""
    trial = step.state.trials.get(trial_id)
    if trial is not None:
        if trial.phase is not Phase.PREPARING:  # it may be about to go on from it
            retain(step, trial)
    elif (trial_id, index) in step.state.orphans and index not in pins(step.state, trial_id):
        path = step.state.orphans.pop((trial_id, index))
        _delete(step, trial_id, index, path, "its trial has ended, and no other needs it any more")


def orphan(step: Step, trial: TrialState) -> None:
    """A trial ends: what it keeps for the sake of others alone is none of its own any more."""
    if trial.trial_id not in step.state.offers:
        return
    _drop(step, trial)
    for index in _plan(step, trial, {}).drop:
        path = trial.checkpoints.pop(index).path
        step.state.orphans[trial.trial_id, index] = path


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
