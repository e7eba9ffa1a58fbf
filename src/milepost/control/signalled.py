"""Ends of workers that are held back for a moment, because more is going to happen.

A service manager or batch system signals every process of a job, and a worker's death may be
known before the driver's own signal is. Until it is clear whether the run is being ended, such an
end of a worker is held back; while the run is being ended it is no failure. So are errors of those
that may only have lost the connection to a worker whose machine goes away.

When one of several workers ends, the others are killed. If all had called a report before, those
that are still capturing their part of its checkpoint may complete that first.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

import msgspec

from milepost.control import events, preempting
from milepost.control.state import Halt, Phase
from milepost.engine.protocol import Exited, StartFailed
from milepost.worker.protocol import Failed

if TYPE_CHECKING:
    from milepost.control.events import AnyEvent
    from milepost.control.run import Run
    from milepost.control.state import TrialState

#: What jobs are asked to end with.
_ASKS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})
_HOLD_S: Final = 1.0
#: How long workers may go on to capture after one of them has ended.
CAPTURE_S: Final = 30.0


def took(problem: events.Problem, end: Exited | StartFailed | Failed) -> events.Problem:
    """Mark a problem that came from outside of the worker, or probably did."""
    if isinstance(end, Exited | StartFailed) and end.engine_died:
        return msgspec.structs.replace(problem, signalled=True, engine_died=True)
    # SIGKILL may also be for want of memory; then the trial will fail when it is restored.
    killed = isinstance(end, Exited) and end.signal == signal.SIGKILL
    if killed or was_asked(end):
        return msgspec.structs.replace(problem, signalled=True)
    return problem


def was_asked(end: Exited | StartFailed | Failed) -> bool:
    """Whether a worker was asked to end, as the driver may be in a moment.

    SIGKILL asks nobody: one to a whole job has ended the driver too.
    """
    if isinstance(end, Exited):
        return end.signal in _ASKS
    return isinstance(end, Failed) and end.kind in ("KeyboardInterrupt", "SystemExit")


class Held:
    """Ends of workers that wait for what becomes of the run."""

    def __init__(self) -> None:
        self._held: list[tuple[float, str, AnyEvent]] = []

    def take(
        self,
        event: AnyEvent,
        hold_s: float = _HOLD_S,
        trial_id: str = "",
    ) -> None:
        """Hold an event back.

        Args:
            event: the end of a worker.
            hold_s: for so long.
            trial_id: or until this trial has captured, see :meth:`captured`.
        """
        self._held.append((time.monotonic() + hold_s, trial_id, event))

    def next_moment(self) -> float | None:
        """When one must not be held any longer, in monotonic seconds."""
        return min((moment for moment, _, _ in self._held), default=None)

    def captured(self, trial_id: str) -> list[AnyEvent]:
        """Those that waited for captures of this trial, which are over."""
        found = [event for _, trial, event in self._held if trial == trial_id]
        self._held = [each for each in self._held if each[1] != trial_id]
        return found

    def due(self, now: float) -> list[AnyEvent]:
        """Those whose time is up, in their order.

        Args:
            now: monotonic seconds; infinity lets all go.
        """
        due = [event for moment, _, event in self._held if moment <= now]
        self._held = [each for each in self._held if each[0] > now]
        return due


def told(
    run: Run,
    event: events.WorkerFailed | events.WorkerGone,
    end: Exited | StartFailed | Failed,
) -> None:
    """Tell the machine how a worker ended, at once or when it is clear what that means."""
    state = run.machine.state
    worker = state.workers.get(event.worker_id)
    trial = state.trials.get(worker.trial_id or "") if worker is not None else None
    if trial is not None and _may_complete(run, trial, event.worker_id):
        run.held.take(event, CAPTURE_S, trial.trial_id)
    elif trial is not None and (
        preempting.explains(trial, event.worker_id, event.problem)
        or (was_asked(end) and _may_be_of_the_job(run, trial))
    ):
        run.held.take(event)
    else:
        if trial is not None:
            for earlier in run.held.captured(trial.trial_id):
                run.dispatch(earlier)
        run.dispatch(event)


def _may_be_of_the_job(run: Run, trial: TrialState) -> bool:
    """Whether what ends a worker may be about to end the driver too."""
    state = run.machine.state
    return not state.interrupted and not state.stopping and trial.halt is not Halt.PREEMPT


def _may_complete(run: Run, trial: TrialState, worker_id: str) -> bool:
    """Whether others of the trial capture a checkpoint to which this worker adds nothing more."""
    if trial.size == 1 or trial.phase is Phase.DYING or worker_id not in trial.workers:
        return False
    capturing = run.ledger.live[trial.trial_id].rounds.capturing
    return bool(capturing) and trial.workers.index(worker_id) not in capturing


def completed(run: Run, trial_id: str) -> None:
    """A part was captured; go on with what waited for that, if it was the last."""
    if not run.ledger.live[trial_id].rounds.capturing:
        for event in run.held.captured(trial_id):
            run.dispatch(event)
