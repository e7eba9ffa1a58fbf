"""What shows progress: the interface for users' own reporters, and the levels of detail."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class Verbosity(IntEnum):
    """How much is shown. Mirrors ``ray.tune.utils.log.Verbosity``."""

    V0_MINIMAL = 0
    V1_EXPERIMENT = 1
    V2_TRIAL_NORM = 2
    V3_TRIAL_DETAILS = 3


class ProgressReporter:
    """Shows progress in its own way. Mirrors ``ray.tune.ProgressReporter``."""

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Called once before the first trial starts.

        Args:
            start_time: when the run started, in seconds since the epoch.
            total_samples: how many trials there will be, as far as known.
            metric: the metric that is optimised, if any.
            mode: ``"min"`` or ``"max"``.
            **kwargs: more about the run in later versions.
        """

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Return True when :meth:`report` should be called now.

        Args:
            trials: all trials so far.
            done: whether the run has ended.
        """
        raise NotImplementedError

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Show progress.

        Args:
            trials: all trials so far.
            done: whether the run has ended.
            *sys_info: lines about resources in use.
        """
        raise NotImplementedError
