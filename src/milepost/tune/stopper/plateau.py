"""Stoppers for metrics that do not change any more."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean
from typing import Any

from milepost.api.checks import integer, one_of, optional, require_numbers, text
from milepost.api.numbers import as_float
from milepost.api.spelling import did_you_mean
from milepost.api.stopper import Stopper
from milepost.tune.utils.dicts import flatten_dict, unflattened_lookup


def metric_value(result: dict[str, Any], metric: str) -> Any:
    """Return a metric of a result; ``a/b`` names a nested one.

    Raises:
        KeyError: the result lacks it.
    """
    try:
        return unflattened_lookup(metric, result)
    except (KeyError, IndexError, TypeError):
        reported = flatten_dict(result)
        raise KeyError(
            f"The stopper's metric {metric!r} is not in the result."
            + did_you_mean(metric, map(str, reported))
        ) from None


def standard_deviation(values: list[float]) -> float:
    """Return the standard deviation of a population; NaN when a value is not finite."""
    values = [as_float(value) for value in values]
    if not all(map(math.isfinite, values)):
        return math.nan
    mean = fmean(values)
    return math.sqrt(fmean((value - mean) ** 2 for value in values))


class TrialPlateauStopper(Stopper):
    """Stops a trial when its metric has settled.

    Args:
        metric: the metric.
        std: the standard deviation of the last results below which the metric has settled.
        num_results: how many last results are looked at.
        grace_period: how many results a trial has before it can be stopped.
        metric_threshold: stop only while the metric is at least (``mode="max"``) or at most
            (``"min"``) this value.
        mode: required with ``metric_threshold``.

    Raises:
        TypeError: an argument is of another type.
        ValueError: one is out of range, or there is a threshold and no mode.
    """

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        owner = type(self).__name__
        text(owner, "metric", metric)
        optional(one_of("min", "max"))(owner, "mode", mode)
        require_numbers(owner, std=std)
        if not std >= 0:
            raise ValueError(f"{owner}(std=...) must be 0 or more, got {std!r}.")
        if metric_threshold is not None:
            require_numbers(owner, metric_threshold=metric_threshold)
        if metric_threshold is not None and mode is None:
            raise ValueError(
                f"metric_threshold={metric_threshold!r} needs mode='min' or mode='max', "
                f"got mode={mode!r}."
            )
        self._metric = metric
        self._std = std
        self._num_results: int = integer(at_least=1)(owner, "num_results", num_results)
        self._grace_period: int = integer(at_least=0)(owner, "grace_period", grace_period)
        self._metric_threshold = metric_threshold
        self._mode = mode
        self._seen: dict[str, int] = {}
        self._window: dict[str, deque[float]] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial's metric has settled.

        Raises:
            KeyError: the result lacks the metric.
        """
        value = metric_value(result, self._metric)
        window = self._window.setdefault(trial_id, deque(maxlen=self._num_results))
        window.append(value)
        self._seen[trial_id] = self._seen.get(trial_id, 0) + 1
        if self._seen[trial_id] < self._grace_period or len(window) < self._num_results:
            return False
        if self._metric_threshold is not None:
            short = value > self._metric_threshold
            if self._mode == "max":
                short = value < self._metric_threshold
            if short:
                return False
        return standard_deviation(list(window)) < self._std

    def stop_all(self) -> bool:
        """False: it never ends the run."""
        return False


class ExperimentPlateauStopper(Stopper):
    """Ends the run when the best results of all trials do not improve any more.

    Args:
        metric: the metric.
        std: the standard deviation of the best results below which they have settled.
        top: how many best results are looked at.
        mode: ``"min"`` or ``"max"``.
        patience: how many further results may be settled before the run ends.

    Raises:
        ValueError: an argument has the wrong type or is out of range.
    """

    def __init__(
        self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}.")
        if not isinstance(top, int) or top <= 1:
            raise ValueError(f"top must be a whole number above 1, got {top!r}.")
        if not isinstance(patience, int) or patience < 0:
            raise ValueError(f"patience must be a whole number, zero or more, got {patience!r}.")
        if not isinstance(std, float) or not std > 0:
            raise ValueError(f"std must be a float above 0, got {std!r}.")
        self._metric = metric
        self._std = std
        self._top = top
        self._mode = mode
        self._patience = patience
        self._settled = 0
        self._best: list[float] = []

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take a result; True when the run has settled.

        Raises:
            KeyError: the result lacks the metric.
        """
        value = metric_value(result, self._metric)
        self._best = sorted([*self._best, value], reverse=self._mode == "max")
        del self._best[self._top :]
        self._settled = self._settled + 1 if self.has_plateaued() else 0
        return self.stop_all()

    def has_plateaued(self) -> bool:
        """Whether the best results have settled."""
        return len(self._best) == self._top and standard_deviation(self._best) <= self._std

    def stop_all(self) -> bool:
        """Whether they have been settled for longer than ``patience`` results."""
        return self.has_plateaued() and self._settled >= self._patience
