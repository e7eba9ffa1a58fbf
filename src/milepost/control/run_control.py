"""What schedulers see of the run: the ``tune_controller`` argument of their hooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.api.resources import PlacementGroupFactory, resources_of
from milepost.api.spelling import did_you_mean
from milepost.control import events
from milepost.control.events import AnyEvent
from milepost.control.resources import request_of
from milepost.control.state import PAUSED, WAITING, Phase

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.ledger import Ledger
    from milepost.control.machine import Machine
    from milepost.control.plan import RunPlan


class RunControl:
    """Reads from the run's state; what is asked for takes effect in its order.

    Mirrors what schedulers use of Ray's ``TuneController``.

    Args:
        plan: of the run.
        machine: decides what becomes of a request.
        ledger: its trials.
        dispatch: hands an event to the machine, and carries out what it says.
    """

    def __init__(
        self,
        plan: RunPlan,
        machine: Machine,
        ledger: Ledger,
        dispatch: Callable[[AnyEvent], None],
    ) -> None:
        self._plan = plan
        self._machine = machine
        self._ledger = ledger
        self._dispatch = dispatch

    # --- looking ----------------------------------------------------------------------------

    @property
    def search_alg(self) -> Any:
        """What proposes trials."""
        return self._plan.search

    @property
    def scheduler_alg(self) -> Any:
        """The scheduler."""
        return self._plan.scheduler

    def get_trials(self) -> Ledger:
        """All trials, in the order of their creation."""
        return self._ledger

    def get_live_trials(self) -> set[Trial]:
        """Trials that have not ended."""
        return {self._ledger.facade(trial_id) for trial_id in self._machine.trials}

    def get_trial(self, trial_id: str) -> Trial | None:
        """A trial by its id, or None."""
        return self._ledger.find(trial_id)

    def first_waiting_trial(self) -> Trial | None:
        """The trial that should start next: the first pending one, else the first paused one."""
        trial_id = self._machine.first_waiting
        return None if trial_id is None else self._ledger.facade(trial_id)

    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return self._machine.is_over

    def has_room_for(self, trial: Trial) -> bool:
        """Whether a trial that waits or is paused could start now."""
        state = self._machine.trials.get(trial.trial_id)
        return (
            state is not None
            and state.phase in WAITING
            and self._machine.has_room_for(state.request)
        )

    def waits_for_room(self, trial: Trial) -> bool:
        """Whether a trial waits or is paused because others have what it needs.

        One that is being paused does so as soon as its slot is free, even if its last checkpoint
        is still on its way to the disk.
        """
        state = self._machine.trials.get(trial.trial_id)
        if state is None:
            return False
        is_pausing = state.phase is Phase.SETTLING and state.goal == PAUSED
        return (state.phase in WAITING or is_pausing) and (
            self._machine.is_full or not self._machine.has_room_for(state.request)
        )

    @property
    def resources_total(self) -> dict[str, float]:
        """What all trials together may hold."""
        return self._machine.state.pool.total

    # --- asking -----------------------------------------------------------------------------

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Pause a trial: at once when it waits, at its next report when it runs.

        Args:
            trial: the trial.
            should_checkpoint: whether a class saves first; False keeps its latest checkpoint as
                the one it goes on from.
        """
        self._dispatch(
            events.PauseAsked(at=time.time(), trial_id=trial.trial_id, save=should_checkpoint)
        )

    def unpause_trial(self, trial: Trial) -> None:
        """Let a paused trial go on when there is room."""
        self._dispatch(events.UnpauseAsked(at=time.time(), trial_id=trial.trial_id))

    def stop_trial(self, trial: Trial) -> None:
        """End a trial in the ordinary way: at once when it waits, else at its next report."""
        self._dispatch(events.StopAsked(at=time.time(), trial_id=trial.trial_id))

    def save_trial(self, trial: Trial) -> None:
        """Keep the result that is being judged, for others to go on from: :meth:`exploit_trial`.

        A class saves with it; a function must have reported a checkpoint with it. That one is not
        deleted until this is called again for the trial, or :meth:`release_trial`.
        """
        self._dispatch(events.SaveAsked(at=time.time(), trial_id=trial.trial_id))

    def release_trial(self, trial: Trial) -> None:
        """No other trial is going to be told to go on from what this one has saved."""
        self._dispatch(events.OfferEnded(at=time.time(), trial_id=trial.trial_id))

    def exploit_trial(
        self,
        target: Trial,
        donor: Trial,
        iteration: int,
        config: dict[str, Any],
        tag: str,
        policy: str = "",
    ) -> bool:
        """Have a trial go on from what another one has saved, with another config.

        The target stops at this report, without a save of its own. Once the donor's checkpoint is
        committed it goes on from that; if it turns out to be lost or damaged, from its own. The
        scheduler's ``on_trial_exploit()`` is called when it does so.

        Args:
            target: what goes on from another's checkpoint; also a paused trial.
            donor: a trial for which :meth:`save_trial` was called; also the target itself.
            iteration: ``training_iteration`` of the donor's result for which that was.
            config: what the target goes on with.
            tag: its experiment tag.
            policy: the line for ``pbt_global.txt`` and the target's ``pbt_policy_*.txt``.

        Returns:
            False when there is no such checkpoint, so that nothing happens.
        """
        if not self._machine.can_exploit(target.trial_id, donor.trial_id, iteration):
            return False
        self._dispatch(
            events.ExploitAsked(
                at=time.time(),
                trial_id=target.trial_id,
                donor_id=donor.trial_id,
                iteration=iteration,
                config=self._ledger.encoded(config),
                tag=tag,
                policy=policy,
            )
        )
        return True

    # --- what facades of trials ask for -------------------------------------------------------

    def set_config(self, trial_id: str, config: dict[str, Any]) -> None:
        """Give a trial another config for its next start."""
        trial = self._ledger.live[trial_id]
        trial.config = dict(config)
        trial.raw_config = self._ledger.encoded(trial.config)
        self._reconfigured(trial_id)

    def set_tag(self, trial_id: str, tag: str) -> None:
        """Give a trial another experiment tag."""
        self._ledger.live[trial_id].tag = tag
        self._reconfigured(trial_id)

    def _reconfigured(self, trial_id: str) -> None:
        trial = self._ledger.live[trial_id]
        if trial.state is not None:  # else it is being named, and is recorded in a moment
            self._dispatch(
                events.Reconfigured(
                    at=time.time(), trial_id=trial_id, config=trial.raw_config, tag=trial.tag
                )
            )

    def set_resources(self, trial_id: str, resources: PlacementGroupFactory) -> None:
        """Let a trial that does not run ask for something else."""
        self._ledger.live[trial_id].resources = resources
        request = request_of(resources_of(resources))
        self._dispatch(events.ResourcesChanged(at=time.time(), trial_id=trial_id, request=request))

    def set_status(self, trial_id: str, status: str) -> None:
        """Pause, stop or continue a trial.

        Raises:
            ValueError: there is no way into that status.
        """
        ask: dict[str, Callable[[Trial], None]] = {
            "PAUSED": self.pause_trial,
            "TERMINATED": self.stop_trial,
            "PENDING": self.unpause_trial,
        }
        if status not in ask:
            raise ValueError(f"A trial cannot be set to {status!r}." + did_you_mean(status, ask))
        ask[status](self._ledger.facade(trial_id))

    def __getattr__(self, name: str) -> Any:
        public = [known for known in dir(type(self)) if not known.startswith("_")]
        raise AttributeError(
            f"The controller offers schedulers no {name!r}." + did_you_mean(name, public)
        )
