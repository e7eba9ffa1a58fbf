"""Asynchronous successive halving."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError, integer, require_numbers
from milepost.tune.schedulers.comparing import ComparingScheduler
from milepost.tune.schedulers.rungs import Bracket

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class AsyncHyperBandScheduler(ComparingScheduler):
    """Stops trials that are worse than most others were at the same point.

    Mirrors ``ray.tune.schedulers.AsyncHyperBandScheduler``, also known as ``ASHAScheduler``. A
    trial's score is compared when it comes to a milestone: ``grace_period``, then
    ``reduction_factor`` times as far, and so on. It goes on if it is not below the best
    ``1 / reduction_factor`` of those that were there before it. Nobody waits for anybody, and no
    trial is paused. See Li et al., "A System for Massively Parallel Hyperparameter Tuning".

    A score that is NaN passes, and others are not compared with it. A trial that is tried again
    after a failure stays in its bracket, and milestones that it had passed are not judged again.

    Args:
        time_attr: the entry of results that tells how far a trial is; must not decrease.
        metric: the metric; None takes that of ``TuneConfig``.
        mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.
        max_t: a trial that has come so far is stopped, in units of ``time_attr``.
        grace_period: no trial is stopped before.
        reduction_factor: one in so many trials goes on at each milestone.
        brackets: so many sets of milestones; each leaves out one more of the lowest ones. Trials
            are put into them at random, more into those with more milestones.
        stop_last_trials: whether trials are stopped at ``max_t``.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of range; it is an ``AssertionError`` as well.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 100,
        grace_period: int = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
    ) -> None:
        owner = type(self).__name__
        require_numbers(
            owner, max_t=max_t, grace_period=grace_period, reduction_factor=reduction_factor
        )
        brackets = integer()(owner, "brackets", brackets)
        checks = (
            (0 < max_t < math.inf, "max_t", max_t, "positive and finite"),
            (grace_period > 0, "grace_period", grace_period, "positive"),
            (grace_period <= max_t, "grace_period", grace_period, f"at most max_t={max_t!r}"),
            (reduction_factor > 1, "reduction_factor", reduction_factor, "above 1"),
            (brackets > 0, "brackets", brackets, "positive"),
        )
        for holds, name, value, must_be in checks:
            if not holds:
                raise ArgumentError(f"{owner}({name}=...) must be {must_be}, got {value!r}.")
        super().__init__(time_attr, metric, mode)
        self._max_t = max_t
        self._stop_last_trials = stop_last_trials
        self._brackets = [
            Bracket(grace_period, max_t, reduction_factor, number) for number in range(brackets)
        ]
        self._bracket_of: dict[str, int] = {}
        # Its own, so that neither user code nor a restore changes who is put where.
        self._random = random.Random(0)  # noqa: S311 - no secret
        self._num_stopped = 0

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put a trial into a bracket; one that comes back after a failure is in one already.

        Raises:
            ValueError: there is no metric or no mode.
        """
        super().on_trial_add(tune_controller, trial)
        if trial.trial_id not in self._bracket_of:
            self._bracket_of[trial.trial_id] = self._draw()

    def _draw(self) -> int:
        if len(self._brackets) == 1:
            return 0
        sizes = [len(bracket.rungs) for bracket in self._brackets]
        weights = [math.exp(size - max(sizes)) for size in sizes]
        return self._random.choices(range(len(sizes)), weights)[0]

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return ``STOP`` if the trial is too bad or has come to ``max_t``, else ``CONTINUE``.

        Raises:
            TypeError: the metric or time is no number.
        """
        measured = self._measured_or_warn(trial, result)
        if measured is None:
            return self.CONTINUE
        if (self._stop_last_trials and measured[0] >= self._max_t) or not self._passes(
            trial, measured
        ):
            self._num_stopped += 1
            return self.STOP
        return self.CONTINUE

    def _passes(self, trial: Trial, measured: tuple[float, float]) -> bool:
        if trial.trial_id not in self._bracket_of:  # it ran before this scheduler did
            self._bracket_of[trial.trial_id] = self._draw()
        bracket = self._brackets[self._bracket_of[trial.trial_id]]
        return bracket.passes(trial.trial_id, *measured, fills=self._stop_last_trials)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last result too, and forget the trial.

        Raises:
            TypeError: the metric or time is no number.
        """
        measured = self._measured(trial, result)
        if measured is not None:
            self._passes(trial, measured)
        self._bracket_of.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget the trial; what it has reported stays on record."""
        self._bracket_of.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that has failed for good; what it has reported stays on record."""
        if trial.is_finished():
            self._bracket_of.pop(trial.trial_id, None)

    def debug_string(self) -> str:
        """Return the number of stopped trials, and what each rung demands."""
        lines = [f"Using AsyncHyperBand: num_stopped={self._num_stopped}"]
        return "\n".join(lines + [f"Bracket: {bracket}" for bracket in self._brackets])


#: The same class, by the name of the algorithm.
ASHAScheduler = AsyncHyperBandScheduler
