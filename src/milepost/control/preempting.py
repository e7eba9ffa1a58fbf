"""Workers that are told by a signal that their machine goes away: what follows, and until when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from milepost.control import events, problems
from milepost.control.group import DRAIN_S
from milepost.control.state import RESTARTS, Phase

if TYPE_CHECKING:
    from milepost.control.run import Run
    from milepost.control.state import TrialState
    from milepost.worker.protocol import Preempting


def told(run: Run, worker_id: str, trial: TrialState, message: Preempting) -> None:
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
            reason=message.reason,
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
