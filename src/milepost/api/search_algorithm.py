"""The interface between a run and whatever proposes its trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from milepost.api.spelling import Spelled


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """A trial that was proposed and does not exist yet.

    Attributes:
        trial_id: its id, unique within the experiment.
        config: the configuration, every search variable resolved; objects in it are the user's
            own, containers are copies.
        evaluated_params: the searched variables, flattened to ``{"a/b": value}``.
        experiment_tag: ``<counter>_<variables>``, part of the trial's directory name.
    """

    trial_id: str
    config: dict[str, Any]
    evaluated_params: dict[str, Any] = field(default_factory=dict)
    experiment_tag: str = ""


class SearchAlgorithm(Spelled):
    """Proposes the trials of a run. Mirrors ``ray.tune.search.SearchAlgorithm``.

    The run calls :meth:`add_configurations` once, then :meth:`next_trial` whenever it can take
    one more, and tells about results until :meth:`is_finished`.

    A restored run makes a new object of it, gives it the last saved state with
    :meth:`restore_from_dir`, and then goes through what was recorded since: the same calls in the
    same order, in which :meth:`next_trial` gets the ids that the trials have already.
    """

    _finished = False
    _metric: Any = None

    @property
    def metric(self) -> Any:
        """The metric to optimise, or None."""
        return self._metric

    @property
    def total_samples(self) -> int:
        """How many trials there will be, as far as known; 0 when unknown."""
        return 0

    @property
    def trials_ahead(self) -> int:
        """How many proposed trials may wait for their start.

        With 1, the default, each proposal can learn from all results so far.
        """
        return 1

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take over the run's metric, mode and search space.

        Returns:
            False when a metric or mode was set before and another one is given.
        """
        if self._metric and metric:
            return False
        if metric:
            self._metric = metric
        return True

    def add_configurations(self, experiments: Any) -> None:
        """Take the search space: an ``Experiment``, or a list of them."""
        raise NotImplementedError

    def next_trial(self, trial_id: str | None = None) -> TrialSpec | None:
        """Return the next trial, or None when there is none now (see :meth:`is_finished`).

        Args:
            trial_id: the id of a trial that exists already and was the next one when it was
                made: propose it once more, under this id and whatever the limits are now. None
                for a new one.
        """
        raise NotImplementedError

    def adopt(self, trial_id: str) -> bool:
        """Count a trial that exists already and was not proposed by this object.

        A restored run calls it instead of :meth:`next_trial` where the search has been replaced
        by another one, or its state is lost.

        Returns:
            Whether to tell about the trial's results from now on.
        """
        return False

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called for each result of a trial that goes on; ``result`` is flattened (``a/b``)."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called once when a trial has ended.

        Args:
            trial_id: the trial.
            result: its last result, flattened; None when it failed or never ran.
            error: whether it failed.
        """

    def is_finished(self) -> bool:
        """Whether there will be no more trials."""
        return self._finished

    def set_finished(self) -> None:
        """Propose no more trials."""
        self._finished = True

    def has_checkpoint(self, dirpath: str) -> bool:
        """Whether a directory holds a state for :meth:`restore_from_dir`."""
        return False

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Write the state into a directory."""

    def restore_from_dir(self, dirpath: str) -> None:
        """Take back the state that :meth:`save_to_dir` wrote into a directory."""
