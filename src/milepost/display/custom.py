"""A user's own progress reporter as the display of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from milepost.api.callback import Callback
from milepost.api.progress import ProgressReporter
from milepost.display.picture import checkpoints, resources
from milepost.display.surface import Silent

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class Custom(Silent):
    """Shows the lines of workers, and tells a reporter what the run uses.

    The reporter decides when the run is shown.
    """

    def system_lines(self) -> tuple[str, ...]:
        """Return lines about resources and checkpoints, as reporters are given."""
        if self._view is None:
            return ()
        labelled = (
            ("Resources in use: ", resources(self._view)),
            ("Checkpoints: ", checkpoints(self._view)),
        )
        return tuple(label + text for label, text in labelled if text)


class ReporterCalls(Callback):
    """Calls a reporter at each step of the driver, as Ray does.

    Args:
        reporter: the user's reporter.
        run: knows what the run uses.
        metric: the metric that is optimised, if any.
        mode: ``"min"`` or ``"max"``.
    """

    def __init__(
        self,
        reporter: ProgressReporter,
        run: Custom,
        *,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        self._reporter = reporter
        self._run = run
        self._metric = metric
        self._mode = mode

    def setup(
        self,
        stop: Any | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Set the reporter up."""
        self._reporter.setup(
            start_time=time.time(),
            total_samples=total_num_samples,
            metric=self._metric,
            mode=self._mode,
        )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the reporter report if it wants to."""
        if self._reporter.should_report(trials, done=False):
            self._reporter.report(trials, False, *self._run.system_lines())

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Let the reporter report a last time."""
        if self._reporter.should_report(trials, done=True):
            self._reporter.report(trials, True, *self._run.system_lines())
