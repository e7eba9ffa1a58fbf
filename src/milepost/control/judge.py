"""What becomes of a trial after a result: stoppers, criteria, the scheduler and the searcher."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from milepost.api.fields import DEBUG_METRICS, DEFAULT_METRIC, DONE
from milepost.api.scheduler import TrialScheduler
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.api.searcher import Searcher
from milepost.api.spelling import did_you_mean
from milepost.control.hooks import is_overridden
from milepost.control.metrics import flatten
from milepost.errors import TuneError, text_of

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.informing import Informant
    from milepost.control.plan import RunPlan
    from milepost.control.run_control import RunControl

log = logging.getLogger("milepost.control")

Action = Literal["continue", "stop", "pause"]

_ACTIONS: dict[str, Action] = {
    TrialScheduler.CONTINUE: "continue",
    TrialScheduler.STOP: "stop",
    TrialScheduler.PAUSE: "pause",
    TrialScheduler.NOOP: "continue",  # what it did by itself is in the trial's state
}
_NO_METRICS = frozenset({*DEBUG_METRICS, DONE})


class Verdict(NamedTuple):
    """What was decided about a result.

    Attributes:
        action: what the trial is to do.
        by_condition: the run's stop condition ends it, nobody else; under another one it goes on.
    """

    action: Action
    by_condition: bool = False


def is_judged(plan: RunPlan) -> bool:
    """Whether anybody may stop a trial after a result, or is told of it before it goes on."""
    return (
        bool(plan.criteria)
        or plan.stopper is not None
        or _scheduler_looks(plan)
        or _searcher_looks(plan)
        or any(is_overridden(callback, "on_trial_result") for callback in plan.callbacks)
    )


def _scheduler_looks(plan: RunPlan) -> bool:
    return type(plan.scheduler).on_trial_result is not TrialScheduler.on_trial_result


def _searcher_looks(plan: RunPlan) -> bool:
    return type(plan.search).on_trial_result is not SearchAlgorithm.on_trial_result


def _name_of(search: object) -> str:
    """The class that the user knows: the searcher inside of what is wrapped around it."""
    inner = getattr(search, "searcher", None)
    return _name_of(inner) if isinstance(inner, Searcher) else type(search).__name__


class Judge:
    """Asks everybody who has a say, in the order that Ray asks them.

    Exceptions of what it asks are not caught.

    Args:
        plan: of the run.
        control: what the scheduler sees of the run.
        informant: tells the searcher.

    Attributes:
        remembers: who knows the results of earlier runs: "search", "scheduler", "stopper".
    """

    def __init__(self, plan: RunPlan, control: RunControl, informant: Informant) -> None:
        self._plan = plan
        self._control = control
        self._informant = informant
        self.remembers: Collection[str] = ()
        self._unknown: set[str] = set()
        self._scheduler_looks = _scheduler_looks(plan)
        self._searcher_looks = _searcher_looks(plan)

    def judge(self, trial: Trial, row: dict[str, Any], *, is_known: bool = False) -> Verdict:
        """Decide about a result; sets its ``done`` when the trial stops.

        Args:
            trial: the one that reported.
            row: nested, with ``config``.
            is_known: whether those who remember earlier runs know it; they are not asked again.

        Raises:
            ValueError: a metric that somebody needs is missing.
        """
        self.check_metrics(row)
        not_asked = self.remembers if is_known else ()
        is_done = bool(row.get(DONE))
        if self._ends(trial.trial_id, row, not_asked) or is_done:
            row[DONE] = True
            return Verdict("stop", by_condition=not is_done)
        if not (self._scheduler_looks or self._searcher_looks):
            return Verdict("continue")
        flat = flatten(row)
        action: Action = "continue"
        if self._scheduler_looks and "scheduler" not in not_asked:
            decision = self._plan.scheduler.on_trial_result(self._control, trial, flat)
            if decision not in _ACTIONS:
                raise ValueError(
                    f"{type(self._plan.scheduler).__name__}.on_trial_result() returned "
                    f"{decision!r}." + did_you_mean(decision, _ACTIONS)
                )
            action = _ACTIONS[decision]
        if action == "stop":
            row[DONE] = True
        elif self._searcher_looks and "search" not in not_asked:
            self._informant.result(trial.trial_id, flat)
        return Verdict(action)

    def ends(self, trial_id: str, row: dict[str, Any]) -> bool:
        """Whether a stopper or criterion ends the trial."""
        return self._ends(trial_id, row)

    def _ends(self, trial_id: str, row: dict[str, Any], not_asked: Collection[str] = ()) -> bool:
        stopper = self._plan.stopper
        if stopper is not None and "stopper" not in not_asked and stopper(trial_id, row):
            return True
        return self.reaches(trial_id, row)

    def reaches(self, trial_id: str, row: dict[str, Any]) -> bool:
        """Whether a criterion ends the trial."""
        criteria = self._plan.criteria or {}
        return any(
            self._reached(trial_id, name, threshold, row) for name, threshold in criteria.items()
        )

    def _reached(self, trial_id: str, name: str, threshold: Any, row: dict[str, Any]) -> bool:
        flat = row if name in row else flatten(row)
        if name in flat:
            try:
                return bool(flat[name] >= threshold)
            except Exception as error:
                raise TuneError(
                    f"Trial {trial_id} reported {name}={flat[name]!r} "
                    f"({type(flat[name]).__name__}), which the stop criterion {name!r}: "
                    f"{threshold!r} cannot be compared with: {text_of(error)}. Report a number in "
                    "each result, or take the criterion out of `stop`. What was reported and "
                    "committed is kept."
                ) from error
        if name not in self._unknown:
            self._unknown.add(name)
            log.warning(
                "The stop criterion %r is not in the result, so it stops nothing.%s",
                name,
                did_you_mean(name, flat),
            )
        return False

    def check_metrics(self, row: dict[str, Any]) -> None:
        """Make sure that a result has what it is compared by.

        Raises:
            ValueError: it does not, and strict checking is not switched off.
        """
        if all(metric in row for metric in self._needed):
            return
        flat = flatten(row)
        missing = [metric for metric in self._needed if metric not in flat]
        if not missing or sum(name not in _NO_METRICS for name in flat) <= 1:
            return
        metric = missing[0]
        reported = [str(name) for name in flat if name not in _NO_METRICS]
        raise ValueError(
            f"The metric {metric!r} of {self._needed[metric]} is not in the result, which has "
            f"{', '.join(sorted(reported))}." + did_you_mean(metric, reported) + " Report it in "
            "each result, or set TUNE_DISABLE_STRICT_METRIC_CHECKING=1 to allow results without."
        )

    @cached_property
    def _needed(self) -> dict[str, str]:
        """The metrics that every result must have, and who needs each."""
        if os.environ.get("TUNE_DISABLE_STRICT_METRIC_CHECKING") == "1":
            return {}
        plan = self._plan
        searched = plan.search.metric
        needed = {
            metric: f"the search algorithm {_name_of(plan.search)}"
            for metric in (searched if isinstance(searched, list | tuple) else (searched,))
        }
        needed[plan.scheduler.metric] = f"the scheduler {type(plan.scheduler).__name__}"
        needed[plan.metric] = "TuneConfig(metric=...)"
        return {m: whose for m, whose in needed.items() if m is not None and m != DEFAULT_METRIC}
