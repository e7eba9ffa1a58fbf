"""Restarts that are no failures: the machine of a worker goes away, or there is room for more.

All workers of the trial are asked to save. The trial stops at its next report, with a checkpoint
if it makes any, and begins again from there.
"""

from __future__ import annotations

from milepost.control import commands, events, failing, settling, validating
from milepost.control.events import Problem
from milepost.control.state import PENDING, RESTARTS, Halt, Phase, TrialState
from milepost.control.step import Step

_RUNNING = (Phase.STARTING, Phase.TRAINING, Phase.SAVING)
#: What workers are told when there is room for more of them.
RESIZE = "RESIZE"


def preempting(step: Step, event: events.Preempting) -> None:
    """A worker will lose its machine: all of its trial save, and begin again."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase not in _RUNNING or trial.halt not in (None, *RESTARTS):
        return  # it stops in any case
    if trial.halt is not Halt.PREEMPT:
        trial.halt = Halt.PREEMPT
        step.attend(trial)
    trial.preempted, trial.taken = event.ranks, event.problem
    _ask(step, trial, event.reason, event.deadline_ms, event.ranks)


def look_for_room(step: Step) -> None:
    """Have a trial that could have more workers begin again, if nobody else waits for the room."""
    state = step.state
    if state.stopping or state.interrupted or len(state.queue):
        return
    for trial_id in sorted(state.active):
        trial = state.trials[trial_id]
        if trial.phase is Phase.TRAINING and trial.halt is None and _has_room(step, trial):
            step.info(
                f"Trial {trial.name} trains with {trial.size} workers, and there is room for more: "
                "it begins again with them after its next checkpoint."
            )
            trial.halt = Halt.RESIZE
            step.attend(trial)
            _ask(step, trial, RESIZE, None, ())
            return


def may_grow(trial: TrialState) -> bool:
    """Whether a trial trains with fewer workers than it may have."""
    return trial.most is not None and trial.size < len(trial.most.bundles)


def _has_room(step: Step, trial: TrialState) -> bool:
    if trial.most is None or not may_grow(trial):
        return False
    return validating.leaves_room(step.state, step.settings, trial.most.only(trial.size))


def _ask(
    step: Step, trial: TrialState, reason: str, deadline_ms: int | None, ranks: tuple[int, ...]
) -> None:
    for worker_id in trial.workers:
        step.do(
            commands.Preempt(
                worker_id=worker_id, reason=reason, deadline_ms=deadline_ms, ranks=ranks
            )
        )


def is_cut_short(trial: TrialState, problem: Problem) -> bool:
    """Whether an attempt ended because the machine of a worker has gone away."""
    return trial.halt is Halt.PREEMPT and problem.signalled


def overdue(step: Step, trial: TrialState, late: Problem | None) -> None:
    """The machine of a worker was to be gone by now: kill what is left, and begin again."""
    step.warn(f"Trial {trial.name} has not stopped before its machine was to go away: killing it.")
    trial.taken = trial.problem = late or trial.taken
    step.kill_workers(trial)


def again(step: Step, trial: TrialState, *, killed: bool) -> None:
    """An attempt has ended that was to be followed by another one.

    Args:
        step: changes the state.
        trial: has no workers any more.
        killed: it did not end by itself, so that it may have captured what nobody was told of.
    """
    if trial.halt is Halt.PREEMPT:
        trial.preemptions += 1
        limit = step.settings.max_preemptions
        assert trial.taken is not None
        if step.settings.count_preemption:
            failing.fail(step, trial, trial.taken)
            return
        if 0 <= limit < trial.preemptions:
            failing.give_up(step, trial, trial.taken)
            return
        step.info(
            f"Trial {trial.name} begins again, as a machine under it goes away "
            f"(preemption {trial.preemptions}, which is no failure)."
        )
    trial.goal = PENDING
    step.set_status(trial, PENDING)
    if killed:
        trial.unclean = True
        settling.drain(step, trial)
    else:
        settling.settle(step, trial)
