"""Looking into the results of a run, as older scripts do."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from milepost.api.fields import CONFIG, DEFAULT_METRIC, TRAINING_ITERATION
from milepost.api.nested import flatten_dict
from milepost.tune.results import best, rows
from milepost.tune.results.lookup import check_mode, is_comparable, lookup, score

if TYPE_CHECKING:
    from pandas import DataFrame

    from milepost.checkpoint.handle import Checkpoint
    from milepost.control.facade import Trial
    from milepost.control.outcome import TrialFacts
    from milepost.tune.results.result import Result
    from milepost.tune.results.saves import StateSaves

log = logging.getLogger("milepost.tune")


class ExperimentAnalysis:
    """All trials of a run, live or read from its directory. Mirrors Ray's class.

    An experiment is opened from its directory without the trainable and without unpickling
    anything; values that JSON cannot hold show as their ``repr``.

    Args:
        experiment_checkpoint_path: the experiment's directory (or, as in older scripts, a file
            in it).
        storage_filesystem: the file system it is on; only the local one is supported.
        trials: trials of a run in hand; read from the directory when left out.
        default_metric: the metric that the ``best_*`` properties compare by. With a mode alone it
            is ``"_metric"``, the value of functions that return a number.
        default_mode: ``"min"`` or ``"max"``.

    Raises:
        ValueError: there is no experiment at that path, or the mode is unknown.

    Example:
        >>> analysis = ExperimentAnalysis("~/milepost_results/train")     # doctest: +SKIP
        >>> analysis.get_best_config(metric="loss", mode="min")           # doctest: +SKIP
    """

    def __init__(
        self,
        experiment_checkpoint_path: str | os.PathLike[str],
        *,
        storage_filesystem: Any | None = None,
        trials: Sequence[Any] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
    ) -> None:
        from milepost.tune.results.assemble import records_of
        from milepost.tune.results.stored import experiment_directory, stored_records

        if default_mode:
            check_mode(default_mode)
        self.default_metric = default_metric or (DEFAULT_METRIC if default_mode else None)
        self.default_mode = default_mode
        self._filesystem = storage_filesystem
        self._path = experiment_directory(experiment_checkpoint_path, storage_filesystem)
        self._records: Sequence[TrialFacts] = (
            stored_records(self._path) if trials is None else records_of(trials)
        )
        self._results: weakref.WeakValueDictionary[int, Result] = weakref.WeakValueDictionary()

    # --- the run ------------------------------------------------------------------------------

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, absolute."""
        return self._path

    @property
    def state_saves(self) -> StateSaves:
        """How often searcher, scheduler, stopper and callbacks were saved, and what it took.

        Beyond Ray. It is read from the experiment's journal each time.
        """
        from milepost.tune.results.saves import state_saves

        return state_saves(self._path)

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials in the order they were created."""
        from milepost.tune.results.assemble import trials_of

        return trials_of(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def result(self, index: int) -> Result:
        """Return the :class:`Result` of the trial at a position of :attr:`trials`."""
        from milepost.tune.results.assemble import result_of

        index = range(len(self._records))[index]
        held = self._results.get(index)
        if held is None:
            held = self._results[index] = result_of(self._records[index], self._filesystem)
        return held

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r}, trials={len(self)})"

    def _repr_html_(self) -> str:
        from milepost.tune.results.assemble import overview

        return overview(f"ExperimentAnalysis: {self._path}", self._records)

    # --- configs and rows ---------------------------------------------------------------------

    def get_all_configs(self, prefix: bool = False) -> dict[str, dict[str, Any]]:
        """Return the configuration of every trial by its id.

        Args:
            prefix: whether keys become ``config/<key>``, as in data frames.
        """
        return {
            record.trial_id: (
                {f"{CONFIG}/{name}": value for name, value in record.config.items()}
                if prefix
                else dict(record.config)
            )
            for record in self._records
        }

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The last row of every trial by its id."""
        return {record.trial_id: record.last_row for record in self._records}

    @property
    def results_df(self) -> DataFrame:
        """The last row of every trial as a frame with flat names, indexed by trial id."""
        pandas = rows.import_pandas("results_df")
        frame = pandas.DataFrame.from_records([_delimited(row) for row in self.results.values()])
        frame.index = pandas.Index(list(self.results), name="trial_id")
        return frame.drop(columns="trial_id", errors="ignore")

    @cached_property
    def trial_dataframes(self) -> dict[str, DataFrame]:
        """All logged rows of every trial by its id; an empty frame where nothing was logged."""
        return {record.trial_id: rows.frame(record.directory) for record in self._records}

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> DataFrame:
        """Return one row per trial that logged any, with flat names.

        Args:
            metric: choose each trial's row by this metric; default its last row.
            mode: ``"min"`` or ``"max"``: which row of ``metric``; default the run's own mode.

        Returns:
            Columns are the metrics, ``config/...`` and ``logdir``, the trial's directory.

        Raises:
            ValueError: a metric has no mode or the reverse, or the mode is unknown.
        """
        if metric is not None or mode is not None:
            mode = check_mode(mode or self.default_mode)
            if metric is None:
                raise ValueError(f"mode={mode!r} needs a metric whose {mode} is meant")
        pandas = rows.import_pandas("dataframe()")
        chosen = (_chosen_row(record, metric, mode) for record in self._records)
        table = [
            {**flatten_dict(row), "logdir": record.directory}
            for record, row in zip(self._records, chosen, strict=True)
            if row is not None
        ]
        return pandas.DataFrame.from_records(table)

    # --- the best trial -----------------------------------------------------------------------

    def get_best_trial(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Trial | None:
        """Return the best trial by a metric; the only trial of a run is the best.

        Args:
            metric: flat name (``a/b``); default the run's own.
            mode: ``"min"`` or ``"max"``; default the run's own.
            scope: compare by the last value, the best of ``all``, ``avg``, ``last-5-avg`` or
                ``last-10-avg``.
            filter_nan_and_inf: whether NaN and infinite values are left out.

        Returns:
            None, with a warning in the log, when no trial has a usable value.

        Raises:
            ValueError: there is no metric or mode, or the scope is unknown.
        """
        index = self._best_index(metric, mode, scope, filter_nan_and_inf)
        return None if index is None else self.trials[index]

    def get_best_config(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last"
    ) -> dict[str, Any] | None:
        """Return the configuration of :meth:`get_best_trial`, or None."""
        index = self._best_index(metric, mode, scope)
        return None if index is None else self._records[index].config

    def get_best_checkpoint(
        self, trial: Trial, metric: str | None = None, mode: str | None = None
    ) -> Checkpoint | None:
        """Return the kept checkpoint of a trial whose row has the best value of a metric.

        Args:
            trial: one of :attr:`trials`.
            metric: its name; default the run's own.
            mode: ``"min"`` or ``"max"``; default the run's own.

        Returns:
            None, with an error in the log, when the trial has no such checkpoint.

        Raises:
            ValueError: there is no metric or mode, or the trial is not of this run.
        """
        metric, mode = best.resolve(metric, mode, self.default_metric, self.default_mode)
        kept = self.result(self._index_of(trial)).best_checkpoints or []
        scored = [
            (value, checkpoint)
            for checkpoint, row in kept
            if is_comparable(value := score(lookup(row, metric)))
        ]
        if not scored:
            log.error("No checkpoint of trial %s has a number for metric %r.", trial, metric)
            return None
        return (max if mode == "max" else min)(scored, key=lambda pair: pair[0])[1]

    def get_last_checkpoint(
        self, trial: Trial | None = None, metric: str = TRAINING_ITERATION, mode: str = "max"
    ) -> Checkpoint | None:
        """Return the newest checkpoint of a trial.

        Args:
            trial: one of :attr:`trials`; default the best one by ``metric`` and ``mode``.
            metric: how that trial is chosen; default the one that ran longest.
            mode: ``"min"`` or ``"max"``.
        """
        index = self._best_index(metric, mode, "last") if trial is None else self._index_of(trial)
        return None if index is None else self.result(index).checkpoint

    @property
    def best_trial(self) -> Trial | None:
        """The best trial by the run's metric and mode."""
        self._require_defaults("best_trial", "get_best_trial(metric, mode)")
        return self.get_best_trial()

    @property
    def best_config(self) -> dict[str, Any] | None:
        """The configuration of the best trial."""
        self._require_defaults("best_config", "get_best_config(metric, mode)")
        return self.get_best_config()

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """The best kept checkpoint of the best trial."""
        self._require_defaults("best_checkpoint", "get_best_checkpoint(trial, metric, mode)")
        trial = self.best_trial
        return None if trial is None else self.get_best_checkpoint(trial)

    @property
    def best_dataframe(self) -> DataFrame:
        """All logged rows of the best trial."""
        self._require_defaults("best_dataframe", "get_best_trial(metric, mode)")
        trial = self.best_trial
        if trial is None:
            return rows.import_pandas("best_dataframe").DataFrame()
        return rows.frame(self._records[self._index_of(trial)].directory)

    @property
    def best_result(self) -> dict[str, Any] | None:
        """The last row of the best trial."""
        self._require_defaults("best_result", "get_best_trial(metric, mode).last_result")
        trial = self.best_trial
        return None if trial is None else self._records[self._index_of(trial)].last_row

    @property
    def best_result_df(self) -> DataFrame:
        """The last row of the best trial as a frame of one line, indexed by trial id."""
        pandas = rows.import_pandas("best_result_df")
        row = self.best_result
        if row is None:
            return pandas.DataFrame()
        return pandas.DataFrame.from_records([_delimited(row)], index="trial_id")

    # --- inside -------------------------------------------------------------------------------

    def _best_index(
        self,
        metric: str | None,
        mode: str | None,
        scope: str,
        filter_nan_and_inf: bool = True,
    ) -> int | None:
        if len(self._records) == 1:
            return 0
        metric, mode = best.resolve(metric, mode, self.default_metric, self.default_mode)
        index = best.best_index(self._records, metric, mode, scope, filter_nan_and_inf)
        if index is None:
            log.warning("%s", best.no_best(self._records, metric))
        return index

    def _index_of(self, trial: Any) -> int:
        wanted = getattr(trial, "trial_id", trial)
        for i, record in enumerate(self._records):
            if record.trial_id == wanted:
                return i
        raise ValueError(f"trial {trial!r} is not one of the {len(self)} trials of {self._path}")

    def _require_defaults(self, name: str, instead: str) -> None:
        if not self.default_metric or not self.default_mode:
            raise ValueError(
                f"{name} needs a metric and a mode, and the run was made without them: call "
                f"{instead} instead, or pass metric and mode to the run."
            )


def _chosen_row(record: TrialFacts, metric: str | None, mode: str | None) -> Any:
    """The row of a trial that ``dataframe`` shows; None for a trial that never reported."""
    if metric is None:
        return record.last_row if TRAINING_ITERATION in record.last_row else None
    scored = [
        (value, row)
        for row in rows.rows(record.directory)
        if (value := score(lookup(row, metric))) is not None and value == value
    ]
    if not scored:
        return None
    return (max if mode == "max" else min)(scored, key=lambda pair: pair[0])[1]


def _delimited(row: dict[str, Any]) -> dict[str, Any]:
    delimiter = os.environ.get("TUNE_RESULT_DELIM", "/")
    flat = flatten_dict(row)
    if delimiter == "/":
        return flat
    return {name.replace("/", delimiter): value for name, value in flat.items()}
