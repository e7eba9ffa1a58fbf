"""The median stopping rule."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError, require_numbers
from milepost.tune.schedulers.comparing import ComparingScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class _Course:
    """What a trial has reported so far.

    Args:
        grace: only results from then on count for averages.
    """

    __slots__ = ("_grace", "_sums", "_times", "_values", "best", "last")

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._times: list[float] = []  # ascending
        self._values: list[float] = []
        self._sums: list[float] = []  # of the values up to each place
        self.best = math.nan
        self.last: tuple[float, float] | None = None

    def add(self, time: float, score: float) -> None:
        """Take in a result; time may go back, when a trial is tried again."""
        self.last = time, score
        if not score <= self.best and not math.isnan(score):
            self.best = score
        if time >= self._grace:
            place = bisect_right(self._times, time)
            self._times.insert(place, time)
            self._values.insert(place, score)
            del self._sums[place:]
            total = self._sums[-1] if self._sums else 0.0
            for value in self._values[place:]:
                total += value
                self._sums.append(total)

    def mean(self, time: float) -> float:
        """The mean of all scores from the grace period to a time; NaN if there are none."""
        number = bisect_right(self._times, time)
        return self._sums[number - 1] / number if number else math.nan


class MedianStoppingRule(ComparingScheduler):
    """Stops trials whose best result is worse than the median of the others' averages.

    Mirrors ``ray.tune.schedulers.MedianStoppingRule``. A trial at time t is compared with all
    others that have come that far, by the average of what they had reported until t. See Golovin
    et al., "Google Vizier: A Service for Black-Box Optimization", section 3.2.

    Averages that are not finite are left out, and so is a NaN of the trial itself: a trial that
    has reported nothing else goes on.

    Args:
        time_attr: the entry of results that tells how far a trial is.
        metric: the metric; None takes that of ``TuneConfig``.
        mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.
        grace_period: no trial is stopped before, and earlier results do not count for averages.
        min_samples_required: with fewer others to compare with, a trial is not stopped, but gives
            way to those that wait.
        min_time_slice: it runs at least so long before it does so again.
        hard_stop: whether bad trials are stopped; False pauses each once and lets it go on when
            there is room, without being judged again.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of range; it is an ``AssertionError`` as well.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: int = 0,
        hard_stop: bool = True,
    ) -> None:
        owner = type(self).__name__
        require_numbers(
            owner,
            grace_period=grace_period,
            min_samples_required=min_samples_required,
            min_time_slice=min_time_slice,
        )
        checks = (
            (grace_period >= 0, "grace_period", grace_period, "0 or more"),
            (min_samples_required >= 1, "min_samples_required", min_samples_required, "at least 1"),
            (min_time_slice >= 0, "min_time_slice", min_time_slice, "0 or more"),
        )
        for holds, name, value, must_be in checks:
            if not holds:
                raise ArgumentError(f"{owner}({name}=...) must be {must_be}, got {value!r}.")
        super().__init__(time_attr, metric, mode)
        self._grace_period = grace_period
        self._min_samples_required = min_samples_required
        self._min_time_slice = min_time_slice
        self._hard_stop = hard_stop
        self._courses: dict[str, _Course] = {}
        self._last_pause: dict[str, float] = {}
        self._judged_bad: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Compare the trial with the others.

        Raises:
            TypeError: the metric or time is no number.
        """
        measured = self._measured_or_warn(trial, result)
        if measured is None or trial.trial_id in self._judged_bad:
            return self.CONTINUE
        time = measured[0]
        course = self._course(trial)
        course.add(*measured)
        if not time >= self._grace_period:
            return self.CONTINUE
        averages = self._averages(trial.trial_id, time)
        if len(averages) < max(1, self._min_samples_required):
            if self._gives_way(tune_controller, trial.trial_id, time):
                self._last_pause[trial.trial_id] = time
                return self.PAUSE
            return self.CONTINUE
        if course.best < statistics.median(averages):
            self._judged_bad.add(trial.trial_id)
            return self.STOP if self._hard_stop else self.PAUSE
        return self.CONTINUE

    def _course(self, trial: Trial) -> _Course:
        course = self._courses.get(trial.trial_id)
        if course is None:
            course = self._courses[trial.trial_id] = _Course(self._grace_period)
        return course

    def _averages(self, trial_id: str, time: float) -> list[float]:
        """The averages until a time of all others that have come so far."""
        averages = []
        for other, course in self._courses.items():
            if other != trial_id and course.last is not None and course.last[0] >= time:
                mean = course.mean(time)
                if math.isfinite(mean):
                    averages.append(mean)
        return averages

    def _gives_way(self, tune_controller: Any, trial_id: str, time: float) -> bool:
        """Whether a trial that cannot be judged yet lets another one run first."""
        last = self._last_pause.get(trial_id, -math.inf)
        return time - last > self._min_time_slice and any(
            other.status in ("PENDING", "PAUSED")
            for other in tune_controller.get_live_trials()
            if other.trial_id != trial_id
        )

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Take in the last result, if it has not been seen yet.

        Raises:
            TypeError: the metric or time is no number.
        """
        measured = self._measured(trial, result)
        if measured is not None:
            course = self._course(trial)
            if course.last is None or course.last[0] != measured[0]:
                course.add(*measured)

    def debug_string(self) -> str:
        """Return the number of trials that were judged to be bad."""
        return f"Using MedianStoppingRule: num_stopped={len(self._judged_bad)}."
