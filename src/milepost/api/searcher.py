"""The interface of searchers, which propose configurations and learn from results."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError
from milepost.api.spelling import Spelled

if TYPE_CHECKING:
    from milepost.control.facade import Trial

logger = logging.getLogger("milepost.tune")

_MODES = ("min", "max", "obs")


def check_metric_and_mode(metric: Any, mode: Any) -> None:
    """Refuse a metric and mode of a searcher that do not fit together.

    Raises:
        ValueError: a mode is neither ``min``, ``max`` nor ``obs``, the lists of metrics and modes
            differ in length, or only one of the two is a list.
    """
    if not mode:
        return
    if isinstance(mode, str):
        if mode not in _MODES[:2]:
            raise ArgumentError(f"mode must be 'min' or 'max', got {mode!r}.")
        if isinstance(metric, list | tuple):
            raise ArgumentError(
                f"metric is a list ({metric!r}), so mode must be a list of the same length, "
                f"got {mode!r}."
            )
        return
    unknown = [m for m in mode if m not in _MODES]
    if unknown:
        raise ArgumentError(f"each mode must be one of {', '.join(_MODES)}, got {unknown[0]!r}.")
    if not isinstance(metric, list | tuple) or len(metric) != len(mode):
        raise ArgumentError(
            f"mode has {len(mode)} entries, so metric must be a list of as many, got {metric!r}."
        )


class Searcher(Spelled):
    """Proposes configurations one at a time. Mirrors ``ray.tune.search.Searcher``.

    Subclasses implement :meth:`suggest` and :meth:`on_trial_complete`, and :meth:`save` and
    :meth:`restore` if they are to survive an interruption.

    Args:
        metric: the metric to optimise, or a list of several.
        mode: ``"min"`` or ``"max"``; for several metrics a list, which may also hold ``"obs"``.

    Raises:
        ValueError: metric and mode do not fit together.
    """

    #: Returned by :meth:`suggest` when there will be no more configurations.
    FINISHED = "FINISHED"
    #: Name of the state file of :meth:`save_to_dir`.
    CKPT_FILE_TMPL = "searcher-state-{}.pkl"

    _metric: Any
    _mode: Any

    def __init__(self, metric: Any = None, mode: Any = None) -> None:
        check_metric_and_mode(metric, mode)
        self._metric = metric
        self._mode = mode

    @property
    def metric(self) -> Any:
        """The metric to optimise, or None."""
        return self._metric

    @property
    def mode(self) -> Any:
        """``"min"``, ``"max"`` or None."""
        return self._mode

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take over the run's metric, mode and search space.

        Args:
            metric: the metric of ``TuneConfig``, or None.
            mode: ``"min"``, ``"max"`` or None.
            config: the whole search space, as given to the run.
            **spec: more about the run in later versions.

        Returns:
            False (the default) when the searcher uses a space of its own.
        """
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration for a new trial.

        Args:
            trial_id: the id under which results will arrive.

        Returns:
            A configuration; None when there is none yet (ask again later); or :attr:`FINISHED`.
        """
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called for each result of a trial that goes on; ``result`` is flattened (``a/b``)."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called once when a trial has ended.

        Args:
            trial_id: the id given to :meth:`suggest`.
            result: its last result, flattened; None when it failed or never ran.
            error: whether it failed.
        """
        raise NotImplementedError

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learn from a configuration that was evaluated elsewhere.

        Args:
            parameters: the configuration.
            value: its metric.
            error: whether it failed.
            pruned: whether it was stopped early.
            intermediate_values: its metric over time, oldest first.
        """
        raise NotImplementedError

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        """Learn from trials of an earlier run, through :meth:`add_evaluated_point`.

        Args:
            trials_or_analysis: a trial, a list of trials, or an ``ExperimentAnalysis``.
            metric: the metric that they reported.

        Raises:
            NotImplementedError: this searcher cannot learn from points.
        """
        if type(self).add_evaluated_point is Searcher.add_evaluated_point:
            raise NotImplementedError(
                f"{type(self).__name__} has no add_evaluated_point(), so it cannot learn from "
                "earlier trials."
            )
        trials = getattr(trials_or_analysis, "trials", trials_or_analysis)
        found = False
        for trial in trials if isinstance(trials, list | tuple) else [trials]:
            found |= self._add_evaluated_trial(trial, metric)
        if not found:
            logger.warning(
                "None of the trials given to %s finished with a value of %r; nothing was learned.",
                type(self).__name__,
                metric,
            )

    def _add_evaluated_trial(self, trial: Trial, metric: str) -> bool:
        """Learn from one trial; returns whether it finished with a value of the metric."""
        ended = trial.status == "TERMINATED"
        value: Any = trial.last_result.get(metric)
        if value is None and ended:
            return False
        done = bool(trial.last_result.get("done", False))
        self.add_evaluated_point(
            parameters=trial.config,
            value=value,
            error=trial.status == "ERROR",
            pruned=ended and not done,
        )
        return ended and done

    def save(self, checkpoint_path: str) -> None:
        """Write the searcher's state to a file."""
        raise NotImplementedError

    def restore(self, checkpoint_path: str) -> None:
        """Take back the state that :meth:`save` wrote to a file."""
        raise NotImplementedError

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Limit how many trials are out at once; returns True when the searcher does it itself."""
        return False

    def get_state(self) -> dict[str, Any]:
        """Return the state of a wrapper around a searcher."""
        raise NotImplementedError

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_state` returned."""
        raise NotImplementedError

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write the state into a directory so that a crash leaves the old or the new one.

        Args:
            checkpoint_dir: an existing directory.
            session_str: tells states of several sessions apart in the file's name.
        """
        target = os.path.join(checkpoint_dir, self.CKPT_FILE_TMPL.format(session_str))
        draft = f"{target}.tmp"
        self.save(draft)
        os.replace(draft, target)

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Take back the newest state that :meth:`save_to_dir` wrote into a directory.

        Raises:
            RuntimeError: the directory holds none.
        """
        import glob

        pattern = os.path.join(glob.escape(checkpoint_dir), self.CKPT_FILE_TMPL.format("*"))
        states = sorted(glob.glob(pattern))
        if not states:
            raise RuntimeError(
                f"There is no state of {type(self).__name__} in {checkpoint_dir}: "
                f"no file matches {self.CKPT_FILE_TMPL.format('*')}."
            )
        self.restore(states[-1])
