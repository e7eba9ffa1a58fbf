"""What schedulers see of a run while its past is gone through: they look on, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from milepost.control.memory import Exploit, Offered
from milepost.control.run_control import RunControl
from milepost.control.state import ERROR, PAUSED, PENDING, TERMINATED

if TYPE_CHECKING:
    from milepost.control.events import AnyEvent
    from milepost.control.facade import Trial
    from milepost.control.run import Run


class Witness(RunControl):
    """Notes what a scheduler asks for; what came of it is on record.

    Args:
        run: its ledger has the trials.
        asked: trial id -> ``"stop"``, ``"pause"`` or ``"go on"``: asked for before, and kept up.
        offers: trial id -> what others may go on from; kept up.
        exploits: trial id -> what the trial is to go on from, and has not yet; kept up.
    """

    def __init__(
        self,
        run: Run,
        asked: dict[str, str],
        offers: dict[str, Offered],
        exploits: dict[str, Exploit],
    ) -> None:
        super().__init__(run.plan, run.machine, run.ledger, _refuse)
        self.asked = asked
        self.offers = offers
        self.exploits = exploits
        self._judged: set[str] = set()  # trials that offer the result that is being judged
        self._refuses = run.plan.kind == "class" and not run.machine.settings.can_save
        self._needs_checkpoint = run.plan.kind == "function"

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

    def waits_for_room(self, trial: Trial) -> bool:
        """Whether it waited, for whatever reason."""
        return trial.status in (PENDING, PAUSED)

    def save_trial(self, trial: Trial) -> None:
        """Note it."""
        self.offers.pop(trial.trial_id, None)
        self._judged.add(trial.trial_id)

    def release_trial(self, trial: Trial) -> None:
        """Note it."""
        self.offers.pop(trial.trial_id, None)
        self._judged.discard(trial.trial_id)

    def exploit_trial(
        self,
        target: Trial,
        donor: Trial,
        iteration: int,
        config: dict[str, Any],
        tag: str,
        policy: str = "",
    ) -> bool:
        """Note it, unless it could not be done."""
        offer = self.offers.get(donor.trial_id)
        is_there = offer is not None and offer.iteration == iteration and not offer.refused
        if not is_there and donor.trial_id not in self._judged:
            return False
        encoded = bytes(self._ledger.encoded(config))
        self.exploits[target.trial_id] = Exploit(donor.trial_id, iteration, encoded, tag, policy)
        return True

    # --- what is on record about that -------------------------------------------------------

    def reported(self, trial_id: str, iteration: int, index: int | None) -> None:
        """A result that was judged is on record."""
        if trial_id in self._judged:
            self._judged.discard(trial_id)
            refused = index is None and (self._needs_checkpoint or self._refuses)
            self.offers[trial_id] = Offered(iteration, index, refused)

    def saved(self, trial_id: str, index: int) -> None:
        """A class has captured the checkpoint of its last result."""
        offer = self.offers.get(trial_id)
        if offer is not None and offer.index is None:
            self.offers[trial_id] = replace(offer, index=index)

    def lost(self, trial_id: str, index: int) -> None:
        """A checkpoint is not there, or cannot be used."""
        offer = self.offers.get(trial_id)
        if offer is not None and offer.index == index:
            self.offers[trial_id] = replace(offer, refused=True)

    def gone_on(self, trial_id: str) -> None:
        """A trial has started again: it waits for nobody's checkpoint."""
        self.exploits.pop(trial_id, None)

    def ended(self, trial_id: str) -> None:
        """A trial has ended: it waits for nobody's checkpoint, and offers none."""
        self.exploits.pop(trial_id, None)
        self.offers.pop(trial_id, None)

    def exploited(self, trial_id: str) -> None:
        """A trial goes on from another's checkpoint."""
        self.exploits.pop(trial_id, None)
        self.offers.pop(trial_id, None)

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
