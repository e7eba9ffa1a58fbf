"""HyperBand."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError, require_numbers
from milepost.api.fields import CHECKPOINT_DIR_NAME
from milepost.tune.schedulers.comparing import ComparingScheduler
from milepost.tune.schedulers.halving import HalvingBracket

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting

log = logging.getLogger("milepost.tune")


class HyperBandScheduler(ComparingScheduler):
    """Pauses trials at milestones until their whole bracket is there, and lets the best go on.

    Mirrors ``ray.tune.schedulers.HyperBandScheduler``. Brackets differ in how many trials they
    take and how soon they drop most of them; a set of one bracket of each kind is a band. See Li
    et al., "HyperBand: A Novel Bandit-Based Approach to Hyperparameter Optimization".

    Trials must be able to go on from a checkpoint: classes save when they are paused, functions
    have to report a checkpoint with the result of each milestone. A NaN is worse than any number.
    A trial that is tried again after a failure stays in its bracket.

    Args:
        time_attr: the entry of results that tells how far a trial is.
        metric: the metric; None takes that of ``TuneConfig``.
        mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.
        max_t: how far the best trials run, in units of ``time_attr``.
        reduction_factor: one in so many trials goes on at each milestone.
        stop_last_trials: whether trials are stopped at ``max_t``.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of range; it is an ``AssertionError`` as well.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
    ) -> None:
        owner = type(self).__name__
        require_numbers(owner, max_t=max_t, reduction_factor=reduction_factor)
        checks = (
            (1 <= max_t < math.inf, "max_t", max_t, "at least 1 and finite"),
            (reduction_factor > 1, "reduction_factor", reduction_factor, "above 1"),
        )
        for holds, name, value, must_be in checks:
            if not holds:
                raise ArgumentError(f"{owner}({name}=...) must be {must_be}, got {value!r}.")
        super().__init__(time_attr, metric, mode)
        self._max_t = max_t
        self._eta = reduction_factor
        self._stop_last_trials = stop_last_trials
        self._brackets_per_band = round(math.log(max_t) / math.log(reduction_factor)) + 1
        self._bands: list[list[HalvingBracket]] = []
        self._in_band = self._brackets_per_band  # so that the first bracket opens a band
        self._bracket_of: dict[str, HalvingBracket] = {}
        self._filling: HalvingBracket | None = None
        self._num_stopped = 0

    def check_run(self, setting: Setting) -> None:
        """Refuse a run whose trials cannot be paused, or compared.

        Raises:
            ValueError: they cannot.
        """
        super().check_run(setting)
        setting.require_checkpoints(type(self).__name__, "pauses trials at each milestone")

    # --- trials come ------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put a trial into a bracket; one that comes back after a failure is in one already.

        Raises:
            ValueError: there is no metric or no mode.
        """
        super().on_trial_add(tune_controller, trial)
        if trial.trial_id in self._bracket_of:
            return
        if self._filling is None or not self._filling.takes_more:
            self._filling = self._next_bracket()
        self._filling.add(trial.trial_id)
        self._bracket_of[trial.trial_id] = self._filling

    def _next_bracket(self) -> HalvingBracket:
        while True:
            if self._in_band == self._brackets_per_band:
                self._bands.append([])
                self._in_band = 0
            halvings = self._halvings(self._in_band)
            self._in_band += 1
            milestone = int(self._max_t / self._eta**halvings)
            if milestone == 0:
                log.info("HyperBand: no bracket of %d halvings, max_t is too small", halvings)
                continue
            share = self._brackets_per_band / (halvings + 1)
            bracket = HalvingBracket(
                math.ceil(share * self._eta**halvings),
                milestone,
                halvings,
                self._eta,
                self._max_t,
                ends=self._stop_last_trials,
            )
            self._bands[-1].append(bracket)
            return bracket

    def _halvings(self, place: int) -> int:
        """How many halvings a bracket has by its place in the band."""
        return place

    # --- results ----------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return ``CONTINUE`` below the milestone; there ``PAUSE`` until all others have come.

        Raises:
            KeyError: the result lacks the metric or time.
            TypeError: the metric or time is no number.
        """
        bracket = self._bracket_of.get(trial.trial_id)
        if bracket is None:
            return self.STOP  # it was dropped, and has not been told yet
        if not bracket.note(trial.trial_id, *self._required(trial, result)):
            log.info(
                "HyperBand: %s of trial %s has gone back to %s: it goes on from a checkpoint",
                self._time_attr,
                trial.trial_id,
                result[self._time_attr],
            )
        if not bracket.has_arrived(trial.trial_id):
            return self.CONTINUE
        decision = self.PAUSE
        if self._is_due(bracket):
            decision = self._compare(tune_controller, bracket, trial)
        if decision == self.PAUSE and _is_unsaved(result):
            self._warn_once(
                "unsaved",
                f"{type(self).__name__} pauses trial {trial.trial_id} at {self._time_attr}="
                f"{result[self._time_attr]}, and it reported no checkpoint with that result: it "
                "will go on from an earlier one, or from its start if there is none. Report a "
                "checkpoint with each result.",
            )
        return decision

    def _is_due(self, bracket: HalvingBracket) -> bool:
        """Whether the trials of a bracket are to be compared now."""
        return bracket.is_complete

    def _compare(
        self, tune_controller: Any, bracket: HalvingBracket, current: Trial | None = None
    ) -> str:
        """Drop the worst trials of a bracket, and let the others go on.

        Args:
            tune_controller: stops and continues those that are paused.
            bracket: all of its trials have come to the milestone.
            current: the trial whose result made it so, if any.

        Returns:
            What becomes of that trial.
        """
        out: list[str] = []
        while bracket.is_complete:  # results may be so far apart that they skip a milestone
            out += bracket.drop()
        self._num_stopped += len(out)
        for trial_id in out:
            del self._bracket_of[trial_id]
        self._prune(bracket)
        decision = self.PAUSE
        current_id = None if current is None else current.trial_id
        if current_id in out:
            decision = self.STOP
        for trial_id in out:
            if trial_id != current_id:
                tune_controller.stop_trial(tune_controller.get_trial(trial_id))
        for trial_id in bracket:
            if bracket.has_arrived(trial_id):
                continue
            if trial_id == current_id:
                decision = self.CONTINUE
            else:
                self._unpause(tune_controller, trial_id)
        return decision

    def _unpause(self, tune_controller: Any, trial_id: str) -> None:
        """Let a trial go on; one that is not paused yet is chosen when it is."""
        tune_controller.unpause_trial(tune_controller.get_trial(trial_id))

    def _prune(self, bracket: HalvingBracket) -> None:
        """Forget a bracket that is over."""
        if bracket.is_over:
            for band in self._bands:
                if bracket in band:
                    band.remove(bracket)

    # --- trials go --------------------------------------------------------------------------

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Take a trial out of its bracket; the others may have waited for it."""
        self._leave(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Take a trial out of its bracket; the others may have waited for it."""
        self._leave(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Take out a trial that has failed for good; one that is tried again stays."""
        if trial.is_finished():
            self._leave(tune_controller, trial)

    def _leave(self, tune_controller: Any, trial: Trial) -> None:
        bracket = self._bracket_of.pop(trial.trial_id, None)
        if bracket is None:
            return  # dropped
        bracket.remove(trial.trial_id)
        self._prune(bracket)
        if self._is_due(bracket):
            self._compare(tune_controller, bracket)

    # --- who runs ---------------------------------------------------------------------------

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a trial that may run, of the first band and there the least complete bracket."""
        for band in self._bands:
            for bracket in sorted(band, key=lambda each: each.completion):
                for trial_id in bracket:
                    trial: Trial | None = tune_controller.get_trial(trial_id)
                    if trial is not None and self._may_run(tune_controller, bracket, trial):
                        return trial
        return None

    def _may_run(self, tune_controller: Any, bracket: HalvingBracket, trial: Trial) -> bool:
        """Whether a trial waits for its start, or is paused although it may go on."""
        status = trial.status
        waits = status == "PENDING" or (
            status == "PAUSED" and not bracket.has_arrived(trial.trial_id)
        )
        return waits and bool(tune_controller.has_room_for(trial))

    def debug_string(self) -> str:
        """Return the number of stopped trials, and how far each bracket is."""
        brackets = [bracket for band in self._bands for bracket in band]
        lines = [f"Using HyperBand: num_stopped={self._num_stopped} total_brackets={len(brackets)}"]
        return "\n".join(lines + [f"  {bracket}" for bracket in brackets])


def _is_unsaved(result: dict[str, Any]) -> bool:
    """Whether a function reported a result without a checkpoint; classes save when they pause."""
    return CHECKPOINT_DIR_NAME in result and result[CHECKPOINT_DIR_NAME] is None
