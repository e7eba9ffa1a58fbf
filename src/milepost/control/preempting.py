"""Workers that are told by a signal that their machine goes away: what follows, and until when."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from milepost.control import events, problems
from milepost.control.group import DRAIN_S
from milepost.control.state import RESTARTS, Phase
from milepost.engine.protocol import Exited

if TYPE_CHECKING:
    from milepost.control.run import Run
    from milepost.control.state import TrialState
    from milepost.engine.protocol import StartFailed


def ended(run: Run, worker_id: str, trial: TrialState, event: Exited | StartFailed) -> None:
    """A worker has ended; by SIGTERM if that came before it listened to it."""
    if isinstance(event, Exited) and event.signal == signal.SIGTERM:
        told(run, worker_id, trial, signal.SIGTERM.name)


def told(run: Run, worker_id: str, trial: TrialState, reason: str) -> None:
    """A worker was told so: its trial is to save, and has some time for that."""
    group = run.plan.group
    if group is None or trial.phase is Phase.DYING or trial.halt not in (None, *RESTARTS):
        return
    rank = trial.workers.index(worker_id)
    ranks = tuple(sorted({*trial.preempted, rank}))
    hostname = run.ledger.live[trial.trial_id].where.get("hostname", "")
    deadline_ms = round((time.time() + DRAIN_S) * 1000)
    problem, late = (
        problems.of_preemption(run, {hostname: list(ranks)}, deadline_ms, timed_out=timed_out)
        for timed_out in (False, True)
    )
    run.dispatch(
        events.Preempting(
            at=run.now(),
            worker_id=worker_id,
            reason=reason,
            deadline_ms=deadline_ms,
            ranks=ranks,
            problem=problem,
        )
    )
    run.must_obey(worker_id, trial.trial_id, DRAIN_S + group.preemption_grace_s, late)


def explains(trial: TrialState, worker_id: str, problem: events.Problem) -> bool:
    """Whether a worker may have failed because another one of its trial has lost its machine.

    The connection to one that is gone breaks, and that may be known before its death is.
    """
    if problem.signalled or not trial.preempted or worker_id not in trial.workers:
        return False
    return trial.workers.index(worker_id) not in trial.preempted
