"""Trials that hang: how long each worker has been silent, and what is done about it.

A worker that has said nothing for the time it may is first asked where its threads are (see
:mod:`milepost.worker.stacks`), and then killed; its trial has failed. If it says something after
all, nothing has happened.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from milepost.control import events, problems
from milepost.worker.stacks import STACK_SIGNAL

if TYPE_CHECKING:
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")

#: How long a hanging worker has to tell where it is.
ANSWER_S = 1.0

# The loop looks at the latest at the first deadline; if it comes later than this, the driver itself
# was stopped or busy, and what workers said meanwhile is still to be read.
_LATE_S = 0.5


@dataclass(slots=True)
class _Wait:
    deadline: float
    asked: bool = False


class Silence:
    """When each worker must say something; pure, all times are monotonic seconds.

    Args:
        limit_s: how long a worker may be silent; None for ever.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._waits: dict[str, _Wait] = {}

    def heard(self, worker_id: str, now: float) -> None:
        """The worker has something to do, from now on."""
        if self.limit_s is not None:
            self._waits[worker_id] = _Wait(now + self.limit_s)

    def excuse(self, worker_id: str) -> None:
        """The worker need not say anything until it is heard of again."""
        self._waits.pop(worker_id, None)

    def next_deadline(self) -> float | None:
        """When :meth:`due` should be called next."""
        return min((wait.deadline for wait in self._waits.values()), default=None)

    def due(self, now: float) -> list[tuple[str, bool]]:
        """Workers that are overdue, and whether they had been asked already.

        Those that had not are given :data:`ANSWER_S` more; those that had are forgotten.
        """
        first = self.next_deadline()
        if first is None or now < first:
            return []
        if now - first > _LATE_S:
            for wait in self._waits.values():
                wait.deadline += now - first
            return []
        found = []
        for worker_id, wait in list(self._waits.items()):
            if now >= wait.deadline:
                found.append((worker_id, wait.asked))
                if wait.asked:
                    del self._waits[worker_id]
                else:
                    self._waits[worker_id] = _Wait(now + ANSWER_S, asked=True)
        return found


def check(run: Run, now: float) -> None:
    """Ask the workers that are overdue; kill those that were asked and stayed silent.

    Args:
        run: whose workers.
        now: monotonic seconds.
    """
    for worker_id, asked in run.silence.due(now):
        worker = run.machine.state.workers.get(worker_id)
        trial = run.machine.trials.get(worker.trial_id or "") if worker is not None else None
        if trial is None:
            continue
        if not asked:
            run.last_words.ask(worker_id)
            run.workers.signal(worker_id, STACK_SIGNAL)
            continue
        problem = problems.of_silence(run, worker_id, trial)
        run.dispatch(events.Silent(at=run.now(), worker_id=worker_id, problem=problem))
