"""The interface of schedulers, which pause and stop trials by their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from milepost.api.spelling import Spelled

if TYPE_CHECKING:
    from milepost.control.facade import Trial


class TrialScheduler(Spelled):
    """Decides after each result whether a trial goes on. Mirrors Ray's ``TrialScheduler``.

    ``tune_controller`` is a view of the run with ``get_trials()``, ``pause_trial(trial)`` and
    such; ``result`` is flattened, nested metrics are named ``a/b``. Subclasses override what they
    need; this base runs trials in order and never stops one.
    """

    #: The trial goes on.
    CONTINUE = "CONTINUE"
    #: The trial is saved and gives its resources back until it is chosen again.
    PAUSE = "PAUSE"
    #: The trial ends.
    STOP = "STOP"
    #: The scheduler has already acted on the trial.
    NOOP = "NOOP"

    _metric: str | None = None
    _supports_buffered_results = True

    @property
    def metric(self) -> str | None:
        """The metric this scheduler compares trials by, if any."""
        return self._metric

    @property
    def supports_buffered_results(self) -> bool:
        """Whether several results of a trial may be handled as one batch."""
        return self._supports_buffered_results

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take over the run's metric and mode.

        Args:
            metric: the metric of ``TuneConfig``, or None.
            mode: ``"min"``, ``"max"`` or None.
            **spec: more about the run in later versions.

        Returns:
            False when the scheduler already has another metric or mode of its own.
        """
        if self._metric and metric:
            return False
        if metric:
            self._metric = metric
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Called when a trial is added, also when it comes back after a failure."""

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Called when a trial has failed."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return :attr:`CONTINUE`, :attr:`PAUSE`, :attr:`STOP` or :attr:`NOOP` for a result."""
        return self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Called when a trial has ended; ``result`` is its last one."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Called when a pending or paused trial is ended."""

    def on_trial_exploit(self, tune_controller: Any, trial: Trial, donor: Trial) -> None:
        """Called when a trial goes on from another's checkpoint, as ``exploit_trial()`` asked."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the trial to start next, or None when there is none."""
        return None

    def debug_string(self) -> str:
        """Return one line about the scheduler's state for the progress display."""
        return f"Using {type(self).__name__}."

    def save(self, checkpoint_path: str) -> None:
        """Write the scheduler's state to a file, by pickling it."""
        import pickle

        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.__dict__, file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back the state that :meth:`save` wrote to a file."""
        import pickle

        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(pickle.load(file))
