"""What schedulers, stoppers and the user ask for from outside: pause, stop, go on, end."""

from __future__ import annotations

from milepost.control import commands, events, restarting, settling, validating
from milepost.control.state import PAUSED, PENDING, RESTARTS, TERMINATED, Halt, Phase, TrialState
from milepost.control.step import Step
from milepost.journal import records

_IDLE = (Phase.QUEUED, Phase.PREPARING, Phase.PAUSED, Phase.ADOPTING)
_WORKING = (Phase.TRAINING, Phase.SAVING)


def pause(step: Step, event: events.PauseAsked) -> None:
    """Pause a trial: at once when it waits, at its next report when it runs."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None:
        return
    if trial.phase is Phase.ADOPTING:
        assert trial.adoption is not None
        trial.adoption.pauses = True
    elif trial.phase in _IDLE:
        step.move(trial, Phase.PAUSED)
        step.set_status(trial, PAUSED)
    elif trial.phase is Phase.SETTLING:
        if trial.goal == PENDING:
            trial.goal, trial.halt = PAUSED, Halt.PAUSE
    elif trial.halt in (None, *RESTARTS):
        trial.halt, trial.saves_on_pause = Halt.PAUSE, event.save


def unpause(step: Step, event: events.UnpauseAsked) -> None:
    """Let a paused trial go on when there is room."""
    trial = step.state.trials.get(event.trial_id)
    if trial is not None and trial.adoption is not None:
        trial.adoption.pauses = False
    if trial is not None:
        settling.unpause(step, trial, in_front=event.in_front)


def stop(step: Step, event: events.StopAsked) -> None:
    """End a trial in the ordinary way: at once when it waits, at its next report when it runs."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None:
        return
    if trial.phase in _IDLE:
        trial.goal = TERMINATED
        settling.end(step, trial, ran=False)
    elif trial.phase is Phase.SETTLING:
        if trial.goal in (PENDING, PAUSED):
            trial.goal, trial.halt = TERMINATED, Halt.STOP
    elif trial.halt in (None, Halt.PAUSE, *RESTARTS):
        trial.halt = Halt.STOP


def reconfigure(step: Step, event: events.Reconfigured) -> None:
    """Write down a trial's new config."""
    step.record(
        records.Reconfigured(at=event.at, trial=event.trial_id, config=event.config, tag=event.tag)
    )


def change_resources(step: Step, event: events.ResourcesChanged) -> None:
    """Let a trial that does not run ask for something else."""
    trial = step.state.trials[event.trial_id]
    assert trial.grant is None, trial
    never = step.state.pool.why_never(event.request)
    if never is not None:
        step.do(commands.Abort(f"Trial {trial.name} could never start again: {never}."))
        return
    phase = trial.phase
    step.move(trial, Phase.PREPARING)
    trial.request = event.request
    step.move(trial, phase)
    if phase is Phase.QUEUED:
        step.state.queue.add(trial.trial_id, trial.request)


def stop_all(step: Step, *, by: str = "") -> None:
    """End the whole run without ceremony: what waits ends now, what runs at its next report.

    Args:
        step: changes the state.
        by: what stops it, for the record of each trial that is cut short.
    """
    state = step.state
    if state.stopping:
        return
    state.stopping = state.search_ended = True
    state.stopped_by = by
    for trial in list(state.trials.values()):
        if trial.phase in _IDLE:
            _goes_quietly(trial)
            settling.end(step, trial)
        elif trial.phase is Phase.STARTING:
            _goes_quietly(trial)
            step.kill_workers(trial)
        elif trial.phase is Phase.DYING or trial.goal in (PENDING, PAUSED):
            trial.own_end = trial.goal == TERMINATED
            _goes_quietly(trial)
        elif trial.phase in _WORKING or trial.after_save == "pause":
            trial.halt = Halt.END
            step.attend(trial)


def _goes_quietly(trial: TrialState) -> None:
    trial.goal, trial.quiet = TERMINATED, True


def interrupt(step: Step, event: events.Interrupt) -> None:
    """Start nothing more; what runs saves and stops at its next report, unfinished on record."""
    state = step.state
    state.interrupted = True
    for trial in state.trials.values():
        if trial.phase is Phase.STARTING:
            trial.goal = PENDING
            step.kill_workers(trial)
        elif trial.phase in _WORKING:
            if trial.halt in (None, *RESTARTS) and trial.after_save == "continue":
                trial.halt = Halt.INTERRUPT
            for worker_id in trial.workers:
                step.do(
                    commands.Preempt(
                        worker_id=worker_id, reason=event.reason, deadline_ms=event.deadline_ms
                    )
                )
    validating.interrupt(step)
    for trial_id in list(state.settling):  # those that wait for that alone need not any more
        settling.settle(step, state.trials[trial_id])


def overdue(step: Step, event: events.Overdue) -> None:
    """Kill what does not obey a stop or pause, and go on as if it had."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None:
        return
    if trial.halt is Halt.PREEMPT and trial.phase in (Phase.STARTING, *_WORKING):
        restarting.overdue(step, trial, event.problem)
    elif trial.phase is Phase.STOPPING:
        if trial.halt not in RESTARTS:
            trial.goal = PAUSED if trial.after_save == "pause" else TERMINATED
        step.warn(f"Trial {trial.name} was told to {trial.after_save} and did not: killing it.")
        step.kill_workers(trial)


def grace_over(step: Step) -> None:
    """Kill what was told to stop and did not."""
    for trial_id in list(step.state.active):
        trial = step.state.trials[trial_id]
        if trial.phase is Phase.DYING:
            continue
        if trial.phase is Phase.STOPPING and trial.halt not in (Halt.END, Halt.INTERRUPT):
            # It stops for reasons of its own, which hold; only its clean-up is cut off.
            trial.goal = PAUSED if trial.after_save == "pause" else TERMINATED
            if trial.halt in RESTARTS:
                trial.goal = PENDING
        else:
            _goes_quietly(trial)
        step.kill_workers(trial)
