"""Hooks into a run: ``Callback``, and ``LoggerCallback`` which sorts them by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.control.facade import Trial


class Callback:
    """Is told what happens in a run. Mirrors ``ray.tune.Callback``.

    Override any hook; all are called with keyword arguments, in the driver process. An exception
    in a hook ends the run with a ``TuneError``. Accept ``**info``: later versions may pass more.
    ``iteration`` counts the driver's steps, ``trials`` holds all trials so far.
    """

    def setup(
        self,
        stop: Any | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Called once before the first trial starts.

        Args:
            stop: the dict of stop criteria, or None.
            num_samples: as given to ``TuneConfig``.
            total_num_samples: how many trials there will be, as far as known.
            **info: more about the run, such as ``time_budget_s``.
        """

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called at the start of each step of the driver."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called at the end of each step of the driver."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Called when a trial starts, also when it starts again after a failure or a pause."""

    def on_trial_restore(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Kept for scripts that define it; like Ray, the driver does not call it."""

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called after a checkpoint of the trial was committed, after ``on_checkpoint``."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Called for each result; changes made to ``result`` are kept."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Called when a trial has ended without an error."""

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Called when a failed trial is going to be tried again."""

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Called when a trial has failed for good."""

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Called when a checkpoint is committed: it can be read, and survives any crash."""

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Called once when the run ends, however it ends."""

    def get_state(self) -> dict[str, Any] | None:
        """Return what :meth:`set_state` needs after a restore; None when there is nothing."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_state` returned before the run was interrupted."""


class LoggerCallback(Callback):
    """Is told about one trial's life at a time. Mirrors ``ray.tune.logger.LoggerCallback``.

    Override the ``log_trial_*`` hooks; ``trial.path`` is the trial's directory.
    """

    def log_trial_start(self, trial: Trial) -> None:
        """Called when a trial starts, also when it starts again."""

    def log_trial_restore(self, trial: Trial) -> None:
        """Kept for scripts that define it; like Ray, the driver does not call it."""

    def log_trial_save(self, trial: Trial) -> None:
        """Called after a checkpoint of the trial was committed."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Called for each result."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Called when the trial has ended for good."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Call :meth:`log_trial_start`."""
        self.log_trial_start(trial)

    def on_trial_restore(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Call :meth:`log_trial_restore`."""
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Call :meth:`log_trial_save`."""
        self.log_trial_save(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Call :meth:`log_trial_result`."""
        self.log_trial_result(iteration, trial, result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Call :meth:`log_trial_end`."""
        self.log_trial_end(trial, failed=False)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Call :meth:`log_trial_end` with ``failed=True``."""
        self.log_trial_end(trial, failed=True)
