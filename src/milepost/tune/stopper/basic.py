"""Stoppers by iterations and by functions, and stoppers put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milepost.api.checks import integer
from milepost.api.stopper import Stopper, check_stop, require_stop_function


class CombinedStopper(Stopper):
    """Stops as soon as one of several stoppers does.

    The stoppers are asked in order; those after the first that stops are not asked.

    Args:
        *stoppers: the stoppers.

    Raises:
        ValueError: one is no stopper.
    """

    def __init__(self, *stoppers: Stopper) -> None:
        check_stop(type(self).__name__, "stoppers", stoppers)
        self._stoppers = stoppers

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one of the stoppers stops this trial."""
        return any(stopper(trial_id, result) for stopper in self._stoppers)

    def stop_all(self) -> bool:
        """Whether one of the stoppers ends the run."""
        return any(stopper.stop_all() for stopper in self._stoppers)


class FunctionStopper(Stopper):
    """Stops trials by a function.

    Args:
        function: takes the trial's id and its result; returns True to stop the trial.

    Raises:
        ValueError: it is no function, or one that takes other arguments.
    """

    def __init__(self, function: Callable[[str, dict[str, Any]], bool]) -> None:
        if not callable(function):
            raise ValueError(
                f"{type(self).__name__} needs a function (trial_id, result) -> bool, got "
                f"{function!r}."
            )
        require_stop_function(type(self).__name__, function)
        self._fn = function

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """What the function returns."""
        return self._fn(trial_id, result)

    def stop_all(self) -> bool:
        """False: it never ends the run."""
        return False

    @classmethod
    def is_valid_function(cls, fn: Any) -> bool:
        """Whether something is a plain function of this kind, and no stopper."""
        if callable(fn) and hasattr(fn, "stop_all") and not isinstance(fn, Stopper):
            raise ValueError(
                f"{fn!r} has stop_all() but does not derive from milepost.tune.Stopper. Derive "
                "from it, or pass a plain function."
            )
        return callable(fn) and not isinstance(fn, Stopper)


class MaximumIterationStopper(Stopper):
    """Stops each trial after a number of results.

    Args:
        max_iter: how many.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is not above 0.
    """

    def __init__(self, max_iter: int) -> None:
        self._max_iter: int = integer(at_least=1)(type(self).__name__, "max_iter", max_iter)
        self._iter: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this is the trial's last result."""
        self._iter[trial_id] = self._iter.get(trial_id, 0) + 1
        return self._iter[trial_id] >= self._max_iter

    def stop_all(self) -> bool:
        """False: it never ends the run."""
        return False


class NoopStopper(Stopper):
    """Never stops anything."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False."""
        return False

    def stop_all(self) -> bool:
        """Return False."""
        return False
