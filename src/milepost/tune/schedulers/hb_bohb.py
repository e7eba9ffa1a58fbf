"""HyperBand as BOHB wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from milepost.tune.schedulers.halving import HalvingBracket
from milepost.tune.schedulers.hyperband import HyperBandScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class HyperBandForBOHB(HyperBandScheduler):
    """HyperBand for searchers that learn from each milestone, such as ``TuneBOHB``.

    Mirrors ``ray.tune.schedulers.HyperBandForBOHB``, with the arguments of
    :class:`~milepost.tune.schedulers.hyperband.HyperBandScheduler`. The largest bracket is filled
    first, and its trials are compared when it is full and all have come. When nothing runs and
    nothing is proposed, brackets that are not full are compared as they are.

    Results at a milestone get ``hyperband_info`` with the ``budget``, which the searcher sees;
    its ``on_pause`` and ``on_unpause`` are called if it has them.
    """

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """As in HyperBand, but adds ``hyperband_info`` and tells the searcher of a pause.

        Raises:
            KeyError: the result lacks the metric or time.
            TypeError: the metric or time is no number.
        """
        bracket = self._bracket_of.get(trial.trial_id)
        result["hyperband_info"] = {}
        if bracket is not None:
            time = self._required(trial, result)[0]
            if bracket.has_arrived(trial.trial_id) and time > bracket.milestone:
                self._catch_up(tune_controller, bracket)
            if bracket.is_milestone(time):
                result["hyperband_info"] = {"budget": bracket.milestone}
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == self.PAUSE:
            _tell(tune_controller, "on_pause", trial.trial_id)
        return decision

    def _catch_up(self, tune_controller: Any, bracket: HalvingBracket) -> None:
        """Compare a bracket of which a waiting trial has gone on: so it was, in an earlier run.

        Which trial starts when is not rehearsed by a restore: :meth:`choose_trial_to_run`, which
        may have compared it then, is not called.
        """
        if bracket.is_complete:
            self._compare(tune_controller, bracket)

    def _is_due(self, bracket: HalvingBracket) -> bool:
        return bracket.is_complete and not bracket.takes_more

    def _unpause(self, tune_controller: Any, trial_id: str) -> None:
        _tell(tune_controller, "on_unpause", trial_id)
        super()._unpause(tune_controller, trial_id)

    def _halvings(self, place: int) -> int:
        return self._brackets_per_band - 1 - place

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a trial that may run; if all are paused, compare what there is first."""
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is not None or not self._bracket_of:
            return chosen
        if any(trial.status != "PAUSED" for trial in tune_controller.get_live_trials()):
            return None
        for bracket in [each for band in self._bands for each in band if each.is_complete]:
            self._compare(tune_controller, bracket)
            chosen = super().choose_trial_to_run(tune_controller)
            if chosen is not None:
                return chosen
        return None


def _tell(tune_controller: Any, hook: str, trial_id: str) -> None:
    """Tell the searcher, if it wants to know."""
    searcher = getattr(tune_controller.search_alg, "searcher", None)
    told = getattr(searcher, hook, None)
    if told is not None:
        told(trial_id)
