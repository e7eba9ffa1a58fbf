"""Workers that signals from outside have ended, perhaps together with the whole job.

A service manager or batch system signals every process of a job, and a worker's death may be
known before the driver's own signal is. Until it is clear whether the run is being ended, such an
end of a worker is held back for a moment; while the run is being ended it is no failure.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

import msgspec

from milepost.control import events
from milepost.engine.protocol import Exited, StartFailed
from milepost.worker.protocol import Failed

if TYPE_CHECKING:
    from milepost.control.run import Run

#: What jobs are asked to end with.
_ASKS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})
_HOLD_S: Final = 1.0


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
        self._held: list[tuple[float, events.WorkerFailed | events.WorkerGone]] = []

    def take(self, event: events.WorkerFailed | events.WorkerGone) -> None:
        """Hold an event back."""
        self._held.append((time.monotonic() + _HOLD_S, event))

    def next_moment(self) -> float | None:
        """When one must not be held any longer, in monotonic seconds."""
        return self._held[0][0] if self._held else None

    def due(self, now: float) -> list[events.WorkerFailed | events.WorkerGone]:
        """Those whose time is up, in their order.

        Args:
            now: monotonic seconds; infinity lets all go.
        """
        due = [event for moment, event in self._held if moment <= now]
        del self._held[: len(due)]
        return due


def told(
    run: Run,
    event: events.WorkerFailed | events.WorkerGone,
    end: Exited | StartFailed | Failed,
) -> None:
    """Tell the machine how a worker ended, at once or when it is clear what that means."""
    state = run.machine.state
    trial = state.workers[event.worker_id].trial_id if event.worker_id in state.workers else None
    waits = trial is not None and was_asked(end)
    if waits and not state.interrupted and not state.stopping:
        run.held.take(event)
    else:
        run.dispatch(event)
