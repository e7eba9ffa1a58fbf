"""What schedulers have in common that compare trials by a metric at points of their time."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, SupportsFloat

from milepost.api.checks import ArgumentError
from milepost.api.fields import DEFAULT_METRIC
from milepost.api.numbers import as_float
from milepost.api.spelling import did_you_mean
from milepost.tune.compatible import doubled, says_nothing_else
from milepost.tune.schedulers.fifo import FIFOScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting

log = logging.getLogger("milepost.tune")


class MissingValueError(KeyError):
    """A result lacks a value that a scheduler cannot do without."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError shows its text quoted, as if it were a key


class ComparingScheduler(FIFOScheduler):
    """Has a metric, a mode and an attribute that tells how far a trial is.

    Scores are signed, so that a larger one is always better.

    Args:
        time_attr: the entry of results that tells how far a trial is.
        metric: the metric; None takes that of ``TuneConfig``.
        mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.

    Raises:
        ValueError: the mode is another one; it is an ``AssertionError`` as well.
    """

    #: What was warned of.
    _said: AbstractSet[str] = frozenset()

    def __init__(self, time_attr: str, metric: str | None, mode: str | None) -> None:
        if mode is not None and mode not in ("min", "max"):
            raise ArgumentError(
                f"{type(self).__name__}(mode=...) must be 'min' or 'max', got {mode!r}."
            )
        self._time_attr = time_attr
        self._metric = metric
        self._mode = mode

    def check_run(self, setting: Setting) -> None:
        """Refuse a run with no metric or mode to compare by, or with two of them.

        Raises:
            ValueError: it is one of these.
        """
        if not says_nothing_else(self, "on_trial_add"):
            return
        if (self._metric and setting.metric) or (self._mode and setting.mode):
            raise doubled(self, setting.metric, setting.mode)
        mode = self._mode or setting.mode
        self._require_both(self._metric or setting.metric or (mode and DEFAULT_METRIC), mode)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take over the run's metric and mode; False if there is one here and there."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._metric = self._metric or metric
        self._mode = self._mode or mode
        if self._metric is None and self._mode:
            self._metric = DEFAULT_METRIC
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Make sure that there is something to compare by.

        Raises:
            ValueError: there is no metric or no mode.
        """
        self._require_both(self._metric, self._mode)

    def _require_both(self, metric: str | None, mode: str | None) -> None:
        if not metric or not mode:
            raise ValueError(
                f"{type(self).__name__} compares trials and needs a metric and a mode, got "
                f"metric={metric!r}, mode={mode!r}. Set both in TuneConfig(metric=..., "
                f"mode=...) or in {type(self).__name__}(metric=..., mode=...)."
            )

    def _measured(self, trial: Trial, result: dict[str, Any]) -> tuple[float, float] | None:
        """How far a trial is and its signed score; None if its result lacks either.

        Raises:
            TypeError: one of them is no number.
        """
        if self._time_attr not in result or self._metric not in result:
            return None
        time = self._number(trial, self._time_attr, result[self._time_attr])
        value = self._number(trial, self._metric, result[self._metric])
        return time, value if self._mode == "max" else -value

    def _measured_or_warn(self, trial: Trial, result: dict[str, Any]) -> tuple[float, float] | None:
        """The same; the first result that lacks either is named in the log.

        Raises:
            TypeError: one of them is no number.
        """
        measured = self._measured(trial, result)
        if measured is None:
            lacking = self._lacking(result)
            self._warn_once(
                "lacking",
                f"{type(self).__name__} needs {lacking!r} to compare trials, and trial "
                f"{trial.trial_id} reported a result without.{self._advice(lacking, result)} Such "
                "results go on and are not compared.",
            )
        return measured

    def _lacking(self, result: dict[str, Any]) -> str:
        """Which of the two a result lacks."""
        return str(self._metric if self._time_attr in result else self._time_attr)

    def _advice(self, lacking: str, result: dict[str, Any]) -> str:
        """What to do about a result that lacks something, with a space before it."""
        if lacking == DEFAULT_METRIC:
            return (
                f" No metric was given to TuneConfig or {type(self).__name__}: set metric=... in "
                "one of them."
            )
        return did_you_mean(lacking, map(str, result))

    def _warn_once(self, about: str, text: str) -> None:
        """Log a warning, unless there was one about the same; a restored scheduler knows."""
        if about not in self._said:
            self._said = self._said | {about}
            log.warning("%s", text)

    def _required(self, trial: Trial, result: dict[str, Any]) -> tuple[float, float]:
        """The same.

        Raises:
            KeyError: the result lacks one of them.
            TypeError: one of them is no number.
        """
        measured = self._measured(trial, result)
        if measured is None:
            lacking = self._lacking(result)
            raise MissingValueError(
                f"{type(self).__name__} needs {lacking!r} in every result, and trial "
                f"{trial.trial_id} reported one without."
                + self._advice(lacking, result)
                + " What was reported and committed is kept."
            )
        return measured

    def _number(self, trial: Trial, name: str, value: SupportsFloat) -> float:
        if type(value) is float:
            return value
        if not isinstance(value, str | bytes):
            try:
                return as_float(value)
            except TypeError:
                pass
        raise TypeError(
            f"{type(self).__name__} compares numbers, and trial {trial.trial_id} reported "
            f"{name}={value!r} ({type(value).__name__}). Report float('nan') where there is no "
            "value. What was reported and committed is kept."
        )
