"""What a trial is told when its run has to end before the trial does."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PreemptionInfo:
    """Why a trial is asked to save and stop, and until when.

    What ``get_context().get_preemption_info()`` returns in a trial; ``milepost.train`` has one for
    training workers, which also knows of their machines.

    Attributes:
        reason: what ends the run: ``"SIGINT"`` (Ctrl-C), ``"SIGTERM"`` or ``"SIGUSR1"``.
        deadline_ms: when trials that have not stopped are killed, in milliseconds since the
            epoch; None when nothing is killed by itself, as after Ctrl-C.
    """

    reason: str
    deadline_ms: int | None = None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed; None when there is none."""
        if self.deadline_ms is None:
            return None
        return max(0.0, self.deadline_ms / 1000 - time.time())
