"""What running trials do: report, save, finish, fail, die."""

from __future__ import annotations

from typing import Literal

from milepost.control import commands, events, exploiting, failing, lending, restarting, settling
from milepost.control.events import Problem
from milepost.control.state import ACTIVE, PAUSED, RESTARTS, TERMINATED, Halt, Phase, TrialState
from milepost.control.step import Step
from milepost.errors import labelled
from milepost.journal import records

Action = Literal["continue", "stop", "pause"]

_FROM_OUTSIDE = frozenset({Halt.INTERRUPT, *RESTARTS})


def reported(step: Step, event: events.Reported) -> None:
    """A result was judged: write it down, tell its workers what to do, and whether to save."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase is not Phase.TRAINING:
        if trial is not None and trial.phase is Phase.STOPPING:
            # It caught the exit that its last report raised; it gets the same answer again.
            step.do(commands.Answer(worker_id=event.worker_id, action="stop"))
        return
    trial.iteration, trial.row, trial.score = event.iteration, event.row, event.score
    trial.has_saved |= event.checkpoint is not None
    exploiting.reported(step, trial, event.checkpoint)
    trial.engine_deaths = 0
    if trial.halt in _FROM_OUTSIDE and event.action != "continue":
        trial.halt = None  # it would have stopped here anyway
    action = _action(step, trial, event)
    save = _save_is_due(step, trial, action, event)
    step.record(
        records.Reported(
            at=event.at,
            trial=trial.trial_id,
            attempt=trial.attempt,
            iteration=event.iteration,
            row=event.row,
            # That the run ends early, or a machine goes away, decides nothing about the trial.
            action=event.action if trial.halt in _FROM_OUTSIDE else action,
            by_condition=event.by_condition,
            checkpoint=event.checkpoint,
        )
    )
    if event.checkpoint is not None:
        settling.captured(step, trial, event.checkpoint)
    for worker_id in trial.workers:
        answer = commands.Answer(
            worker_id=worker_id, action=action, save=save, awaited=event.awaited
        )
        step.do(answer)
    trial.after_save = action
    if save:
        step.move(trial, Phase.SAVING)
    elif action != "continue":
        step.move(trial, Phase.STOPPING)


def _action(step: Step, trial: TrialState, event: events.Reported) -> Action:
    if not event.awaited:
        return "continue"  # the worker has gone on; if it is to stop, its next report will wait
    if trial.lost is not None or trial.halt in (Halt.STOP, Halt.END):
        return "stop"
    if trial.is_to_stop(event.iteration):
        return "stop"
    if trial.halt is Halt.INTERRUPT:
        return "continue" if _is_spared(step, trial, event) else "stop"
    if trial.halt is Halt.PREEMPT:
        return "continue" if _is_spared(step, trial, event) else "pause"
    if trial.halt is Halt.RESIZE:  # there is no hurry, so nothing has to be done again
        return "continue" if event.checkpoint is None else "pause"
    if trial.halt is Halt.PAUSE and event.action == "continue":
        return "pause"
    return event.action


def _is_spared(step: Step, trial: TrialState, event: events.Reported) -> bool:
    """Whether a function that can save, but has not with this report, may do so with the next."""
    if step.settings.kind == "class" or event.checkpoint is not None or trial.spared:
        return False
    trial.spared = trial.has_saved or event.asks
    return trial.spared


def _save_is_due(step: Step, trial: TrialState, action: Action, event: events.Reported) -> bool:
    settings = step.settings
    if settings.kind == "function" or trial.lost is not None or trial.halt is Halt.END:
        return False
    every = settings.save_every
    if event.save or exploiting.awaits_save(trial) or (every and event.iteration % every == 0):
        return True
    if action == "pause":
        return trial.saves_on_pause
    if trial.halt is Halt.INTERRUPT:
        return settings.can_save
    return action == "stop" and settings.save_at_end


def saved(step: Step, event: events.Saved) -> None:
    """A class has captured the checkpoint it was told to save."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase is not Phase.SAVING:
        return
    if event.index is not None:
        step.record(
            records.Saving(
                at=event.at, trial=trial.trial_id, attempt=trial.attempt, index=event.index
            )
        )
        exploiting.captured(trial, event.index)
        settling.captured(step, trial, event.index)
    step.move(trial, Phase.TRAINING if trial.after_save == "continue" else Phase.STOPPING)


def finished(step: Step, event: events.Finished) -> None:
    """User code is done: the slot is free, the end waits for captured checkpoints."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase not in ACTIVE or trial.phase is Phase.DYING:
        return
    trial.finished.add(event.worker_id)  # others of its trial may not even have started
    if len(trial.finished) < trial.size:
        return
    ends_whole_run = trial.halt is Halt.END or (
        trial.halt is Halt.INTERRUPT and event.reason != "returned"
    )
    # It was told that the run ends, and did not wait for its next report.
    left = event.reason == "stop" and trial.phase is not Phase.STOPPING
    lost = trial.lost
    step.release(trial, reusable=_reusable(step) and lost is None)
    if lost is not None:
        failing.fail(step, trial, failing.lost_problem(trial, lost))
        return
    if trial.halt in RESTARTS and event.reason != "returned":
        restarting.again(step, trial, killed=False)
        return
    trial.quiet = ends_whole_run
    trial.own_end = event.reason == "returned"
    pauses = event.reason == "pause" and trial.halt not in (Halt.STOP, Halt.END)
    trial.goal = PAUSED if pauses or (left and trial.halt is Halt.PAUSE) else TERMINATED
    settling.settle(step, trial)


def _reusable(step: Step) -> bool:
    state = step.state
    if not step.settings.reuse or state.stopping or state.interrupted:
        return False
    return not state.search_ended or len(state.trials) > len(state.active)


def failed(step: Step, event: events.WorkerFailed) -> None:
    """User code raised."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase not in ACTIVE:
        return
    if trial.phase is Phase.DYING:
        return  # it was going to be killed anyway; its death is next
    _attempt_over(step, trial, event.problem)


def gone(step: Step, event: events.WorkerGone) -> None:
    """A worker has exited, or never started; a trial that it ran has failed unless we killed it."""
    worker = step.state.workers.pop(event.worker_id, None)
    if worker is None:
        return
    if worker.grant is not None:
        step.state.pool.release(worker.grant)
    lending.gone(step, worker)
    trial = step.runner_of(worker)
    if trial is None:
        return
    trial.workers.remove(event.worker_id)
    if trial.phase is not Phase.DYING:
        _attempt_over(step, trial, event.problem)
    elif not trial.workers:
        step.release(trial)
        _after_death(step, trial)


def silent(step: Step, event: events.Silent) -> None:
    """A worker hangs: kill it; the attempt has failed once all workers of the trial are dead."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase not in (Phase.STARTING, Phase.TRAINING, Phase.SAVING):
        return
    if trial.halt is Halt.END:
        return  # it has a deadline already, and what happens to it then is no failure
    if trial.halt is Halt.INTERRUPT:
        trial.goal, trial.quiet = TERMINATED, True  # it need not be waited for any longer
        step.info(f"Trial {trial.name} hangs while the run ends: {event.problem.message}")
    else:
        trial.problem = event.problem
    step.kill_workers(trial)


def _attempt_over(step: Step, trial: TrialState, problem: Problem) -> None:
    """An attempt has ended with an error, which counts unless it was told to end anyway."""
    obeying = trial.phase is Phase.STOPPING and trial.lost is None
    if obeying:
        step.warn(
            f"Trial {trial.name} was told to {trial.after_save}, and its clean-up failed: "
            f"{labelled(problem.kind, problem.message)}. Its results and checkpoints are kept."
        )
        pauses = trial.after_save == "pause" and trial.halt not in (Halt.STOP, Halt.END)
        if trial.halt not in RESTARTS:
            trial.goal = PAUSED if pauses else TERMINATED
        trial.quiet = trial.halt in (Halt.END, Halt.INTERRUPT)
    preempted = not obeying and _is_preempted(step, problem)
    if preempted:
        step.info(
            f"Trial {trial.name} was ended with the run, which is no failure: "
            f"{labelled(problem.kind, problem.message)}"
        )
        trial.goal, trial.quiet = TERMINATED, True
    trial.problem = None if obeying or preempted else problem
    if trial.size > 1 and trial.workers:
        # The others may be capturing; what they captured is settled when they are dead.
        step.kill_workers(trial)
        return
    step.release(trial)
    _after_death(step, trial)


def _after_death(step: Step, trial: TrialState) -> None:
    """No worker of an attempt that did not end by itself is left."""
    problem = trial.problem
    if problem is not None and not restarting.is_cut_short(trial, problem):
        failing.fail(step, trial, problem)
    elif trial.goal is None:
        restarting.again(step, trial, killed=True)
    else:
        settling.drain(step, trial)


def _is_preempted(step: Step, problem: Problem) -> bool:
    """Whether an attempt ended because the whole run does."""
    return problem.signalled and step.state.interrupted and not step.settings.count_preemption
