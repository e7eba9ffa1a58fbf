"""The results of a run, one per trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

from milepost.tune.results import best
from milepost.tune.results.result import Result

__all__ = ["Result", "ResultGrid"]

if TYPE_CHECKING:
    from pandas import DataFrame

    from milepost.tune.analysis import ExperimentAnalysis
    from milepost.tune.results.saves import StateSaves

_SHOWN_ROWS = 50


class ResultGrid:
    """The results of all trials of a run, in the order they were created. Mirrors Ray's class.

    Results are made when they are asked for, so a grid over ten thousand trials is cheap.

    Args:
        experiment_analysis: the run; ``ResultGrid(ExperimentAnalysis(path))`` opens an old one.

    Example:
        >>> grid = tuner.fit()                                     # doctest: +SKIP
        >>> grid.get_best_result(metric="loss", mode="min").config  # doctest: +SKIP
    """

    def __init__(self, experiment_analysis: ExperimentAnalysis) -> None:
        self._experiment_analysis = experiment_analysis

    def __len__(self) -> int:
        return len(self._experiment_analysis)

    @overload
    def __getitem__(self, i: int) -> Result: ...

    @overload
    def __getitem__(self, i: slice) -> list[Result]: ...

    def __getitem__(self, i: int | slice) -> Result | list[Result]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self._experiment_analysis.result(i)

    def __iter__(self) -> Iterator[Result]:
        return (self[i] for i in range(len(self)))

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Result:
        """Return the result of the best trial; the first one wins a tie.

        A single trial is returned whatever it reported. Trials that failed take part with their
        last metrics.

        Args:
            metric: flat name (``a/b``) of the metric to compare by; default ``TuneConfig.metric``.
            mode: ``"min"`` or ``"max"``; default ``TuneConfig.mode``.
            scope: compare by the ``last`` value, the best of ``all``, the average ``avg``, or
                that of the latest values, ``last-5-avg`` or ``last-10-avg``.
            filter_nan_and_inf: whether NaN and infinite values are left out.

        Raises:
            ValueError: there is no metric or mode, or the scope is unknown.
            RuntimeError: no trial has a usable value of the metric.
        """
        analysis = self._experiment_analysis
        records = analysis._records
        if len(records) == 1:
            return self[0]
        metric, mode = best.resolve(metric, mode, analysis.default_metric, analysis.default_mode)
        index = best.best_index(records, metric, mode, scope, filter_nan_and_inf)
        if index is None:
            raise RuntimeError(best.no_best(records, metric))
        return self[index]

    def get_dataframe(
        self, filter_metric: str | None = None, filter_mode: str | None = None
    ) -> DataFrame:
        """Return a data frame with one row per trial that reported.

        Args:
            filter_metric: take each trial's row with the best value of this metric; default its
                last row.
            filter_mode: ``"min"`` or ``"max"``.

        Returns:
            Columns are the flat metrics, ``config/...`` and ``logdir``, the trial's directory.

        Raises:
            ImportError: pandas is not installed.
            ValueError: only one of the two is given.
        """
        return self._experiment_analysis.dataframe(filter_metric, filter_mode)

    @property
    def errors(self) -> list[Exception | str]:
        """The errors of the trials that failed."""
        return [
            error
            for i, record in enumerate(self._experiment_analysis._records)
            if record.status == "ERROR" and (error := self[i].error) is not None
        ]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return self._count("ERROR")

    @property
    def num_terminated(self) -> int:
        """How many trials ended well."""
        return self._count("TERMINATED")

    @property
    def state_saves(self) -> StateSaves:
        """How often searcher, scheduler, stopper and callbacks were saved, and what it took.

        Beyond Ray. It is read from the experiment's journal each time.
        """
        return self._experiment_analysis.state_saves

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, absolute."""
        return self._experiment_analysis.experiment_path

    @property
    def filesystem(self) -> Any:
        """The file system of :attr:`experiment_path`; pyarrow's object where it is installed."""
        if self._experiment_analysis._filesystem is not None:
            return self._experiment_analysis._filesystem
        from milepost.storage.filesystem import local_filesystem

        return local_filesystem()

    def _count(self, status: str) -> int:
        return sum(record.status == status for record in self._experiment_analysis._records)

    def __repr__(self) -> str:
        shown = [
            "\n".join(f"  {line}" for line in repr(self[i]).splitlines())
            for i in range(min(len(self), _SHOWN_ROWS))
        ]
        if len(self) > _SHOWN_ROWS:
            shown.append(f"  ... {len(self) - _SHOWN_ROWS} more")
        return f"{type(self).__name__}<[\n" + ",\n".join(shown) + "\n]>"

    def _repr_html_(self) -> str:
        from milepost.tune.results.assemble import overview

        return overview(
            f"ResultGrid: {len(self)} trials, {self.num_errors} errors, {self.experiment_path}",
            self._experiment_analysis._records,
        )
