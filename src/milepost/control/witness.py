"""What schedulers see of a run while its past is gone through: they look on, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from milepost.control.run_control import RunControl
from milepost.control.state import ERROR, TERMINATED

if TYPE_CHECKING:
    from milepost.control.events import AnyEvent
    from milepost.control.facade import Trial
    from milepost.control.run import Run


class Witness(RunControl):
    """Notes what a scheduler asks for; what came of it is on record.

    Args:
        run: its ledger has the trials.
        asked: trial id -> ``"stop"``, ``"pause"`` or ``"go on"``: asked for before, and kept up.
    """

    def __init__(self, run: Run, asked: dict[str, str]) -> None:
        super().__init__(run.plan, run.machine, run.ledger, _refuse)
        self.asked = asked

    def get_live_trials(self) -> set[Trial]:
        """Trials that had not ended at this point of the past."""
        live = self._ledger.live
        return {
            self._ledger.facade(trial_id)
            for trial_id in live
            if live[trial_id].status not in (TERMINATED, ERROR)
        }

    def first_waiting_trial(self) -> Trial | None:
        """None: when trials started is on record."""
        return None

    def is_finished(self) -> bool:
        """False."""
        return False

    def has_room_for(self, trial: Trial) -> bool:
        """False: what fitted then is not known."""
        return False

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Note it."""
        self.asked[trial.trial_id] = "pause"

    def unpause_trial(self, trial: Trial) -> None:
        """Note it."""
        self.asked[trial.trial_id] = "go on"

    def stop_trial(self, trial: Trial) -> None:
        """Note it."""
        self.asked[trial.trial_id] = "stop"

    def set_config(self, trial_id: str, config: dict[str, Any]) -> None:
        """Nothing: configs are on record."""

    def set_tag(self, trial_id: str, tag: str) -> None:
        """Nothing: tags are on record."""

    def set_resources(self, trial_id: str, resources: Any) -> None:
        """Nothing: trials ask for what the plan says."""


def _refuse(event: AnyEvent) -> NoReturn:
    raise AssertionError(f"{type(event).__name__} while the past is gone through")
