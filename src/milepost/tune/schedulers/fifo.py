"""First come, first served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from milepost.api.scheduler import TrialScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class FIFOScheduler(TrialScheduler):
    """Runs trials in the order in which they were made and never stops one early."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first pending trial, else the first paused one, else None."""
        first: Trial | None = tune_controller.first_waiting_trial()
        return first

    def debug_string(self) -> str:
        """Return one line for the progress display."""
        return "Using FIFO scheduling algorithm."
