"""A run as schedulers see it, moved by hand: one event after another, nothing by itself."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

PENDING, RUNNING, PAUSED, TERMINATED, ERROR = "PENDING", "RUNNING", "PAUSED", "TERMINATED", "ERROR"


class Actor:
    """A trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
        self.status = PENDING
        self.time = 0
        self.told: str | None = None  # what it does at its next report, whatever is decided
        self.config: dict[str, Any] = {}
        self.evaluated_params: dict[str, Any] = {}
        self.experiment_tag = trial_id

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def is_finished(self) -> bool:
        return self.status in (TERMINATED, ERROR)


class Stage:
    """The controller and its trials; a paused trial stays RUNNING until :meth:`settle`."""

    def __init__(
        self,
        scheduler: Any,
        *trial_ids: str,
        slots: float = math.inf,
        searches: bool = True,
        configs: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.trials: dict[str, Actor] = {}
        self.slots = slots
        self.pausing: set[str] = set()
        self.told: list[tuple[str, str]] = []  # what the searcher was told
        searcher = SimpleNamespace(
            on_pause=lambda trial_id: self.told.append(("pause", trial_id)),
            on_unpause=lambda trial_id: self.told.append(("unpause", trial_id)),
        )
        self.search_alg = SimpleNamespace(searcher=searcher) if searches else SimpleNamespace()
        self.configs = configs or {}
        self.offers: dict[str, float] = {}  # who is saved for others, at which time
        self.unsaved: set[str] = set()  # whose checkpoints are not there
        self.adopting: dict[str, tuple[str, Any, str]] = {}
        self.policies: list[str] = []
        for trial_id in trial_ids:
            self.add(trial_id)
            self.trials[trial_id].status = RUNNING

    # --- what the scheduler sees ----------------------------------------------------------------

    def get_trials(self) -> list[Actor]:
        return list(self.trials.values())

    def get_live_trials(self) -> set[Actor]:
        return {trial for trial in self.trials.values() if not trial.is_finished()}

    def get_trial(self, trial_id: str) -> Actor | None:
        return self.trials.get(trial_id)

    def first_waiting_trial(self) -> Actor | None:
        for status in (PENDING, PAUSED):
            for trial in self.trials.values():
                if trial.status == status:
                    return trial
        return None

    def has_room_for(self, trial: Actor) -> bool:
        return self.running < self.slots

    def waits_for_room(self, trial: Actor) -> bool:
        waits = trial.status in (PENDING, PAUSED) and trial.trial_id not in self.adopting
        return waits and self.running >= self.slots

    def save_trial(self, trial: Actor) -> None:
        self.offers[trial.trial_id] = trial.time

    def release_trial(self, trial: Actor) -> None:
        self.offers.pop(trial.trial_id, None)

    def exploit_trial(
        self, target: Actor, donor: Actor, iteration: int, config: Any, tag: str, policy: str = ""
    ) -> bool:
        if self.offers.get(donor.trial_id) != iteration or donor.trial_id in self.unsaved:
            return False
        self.adopting[target.trial_id] = donor.trial_id, config, tag
        self.policies.append(policy)
        return True

    def unpause_trial(self, trial: Actor) -> None:
        if trial.status == PAUSED:
            trial.status = PENDING

    def stop_trial(self, trial: Actor) -> None:
        if trial.status in (PENDING, PAUSED):
            self.end(trial.trial_id)
        elif trial.trial_id in self.pausing:
            self.pausing.discard(trial.trial_id)
            self.end(trial.trial_id)
        elif trial.status == RUNNING:
            trial.told = "STOP"

    # --- what happens ---------------------------------------------------------------------------

    @property
    def running(self) -> int:
        return sum(trial.status == RUNNING for trial in self.trials.values()) - len(self.pausing)

    def add(self, trial_id: str) -> None:
        trial = self.trials[trial_id] = Actor(trial_id)
        trial.config = dict(self.configs.get(trial_id, {}))
        self.scheduler.on_trial_add(self, trial)

    def choose(self) -> str | None:
        """Start what the scheduler chooses."""
        trial = self.scheduler.choose_trial_to_run(self)
        if trial is None:
            return None
        assert trial.status in (PENDING, PAUSED)
        trial.status = RUNNING
        return str(trial.trial_id)

    def result(self, trial_id: str, time: float | None = None, **metrics: Any) -> str:
        """A trial reports; what is decided is done, except that a pause has yet to settle."""
        trial = self.trials[trial_id]
        assert trial.status == RUNNING
        assert trial_id not in self.pausing
        trial.time = trial.time + 1 if time is None else time
        row = {"training_iteration": trial.time, "trial_id": trial_id, **metrics}
        decision = self.scheduler.on_trial_result(self, trial, row)
        self.row = row
        action = trial.told or decision
        if action == "STOP":
            self.end(trial_id, row)
        elif action == "PAUSE" or trial_id in self.adopting:
            self.pausing.add(trial_id)
        return str(decision)

    def settle(self, *trial_ids: str) -> None:
        """The checkpoints of pausing trials are committed: those named, or all."""
        for trial_id in sorted(trial_ids or self.pausing):
            self.pausing.remove(trial_id)
            self.trials[trial_id].status = PAUSED

    def adopt(self, *trial_ids: str) -> None:
        """What trials are to go on from is there: those named, or all."""
        for trial_id in trial_ids or sorted(self.adopting):
            donor, config, tag = self.adopting.pop(trial_id)
            trial = self.trials[trial_id]
            self.pausing.discard(trial_id)
            trial.status, trial.config, trial.experiment_tag = PENDING, config, tag
            trial.time = int(self.offers.get(donor, trial.time))
            self.scheduler.on_trial_exploit(self, trial, self.trials[donor])

    def end(self, trial_id: str, row: dict[str, Any] | None = None) -> None:
        trial = self.trials[trial_id]
        trial.status = TERMINATED
        if row is None:
            self.scheduler.on_trial_remove(self, trial)
        else:
            self.scheduler.on_trial_complete(self, trial, row)

    def fail(self, trial_id: str, *, again: bool) -> None:
        trial = self.trials[trial_id]
        self.pausing.discard(trial_id)
        trial.status = PENDING if again else ERROR
        self.scheduler.on_trial_error(self, trial)
        if again:
            self.scheduler.on_trial_add(self, trial)

    def statuses(self) -> dict[str, str]:
        return {trial_id: trial.status for trial_id, trial in self.trials.items()}
