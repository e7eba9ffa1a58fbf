"""Progress reporters that users configure: ``CLIReporter`` and ``JupyterNotebookReporter``."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.fields import (
    DEFAULT_METRIC,
    EPISODE_REWARD_MEAN,
    MEAN_ACCURACY,
    MEAN_LOSS,
    TIME_TOTAL_S,
    TIMESTEPS_TOTAL,
    TRAINING_ITERATION,
)
from milepost.api.progress import ProgressReporter

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.display.trial_table import TrialTables

#: A list of names, or names with their headings.
Columns = list[str] | dict[str, str]

DEFAULT_COLUMNS = {
    MEAN_ACCURACY: "acc",
    MEAN_LOSS: "loss",
    TRAINING_ITERATION: "iter",
    TIME_TOTAL_S: "total time (s)",
    TIMESTEPS_TOTAL: "ts",
    EPISODE_REWARD_MEAN: "reward",
}


class TuneReporterBase(ProgressReporter):
    """Tables of trials, with columns that the user chooses. Base of the two reporters below.

    Args:
        metric_columns: metrics to show: a list, or a dict metric -> heading. The default shows
            well-known ones and the first ``infer_limit`` numbers that trials report.
        parameter_columns: parameters to show, likewise; the default shows the searched ones.
        total_samples: how many trials there will be; taken from the run when None.
        max_progress_rows: rows of the table while the run goes on; at the end all are shown.
        max_error_rows: likewise for the table of errors.
        max_column_length: longest cell or heading, in characters.
        max_report_frequency: seconds between two reports at least.
        infer_limit: how many metrics are found by themselves.
        print_intermediate_tables: whether the table is shown before the end as well; the default
            is yes. Without it, a report before the end says counts and the best trial only.
        metric: the metric that decides which trial is best; taken from ``TuneConfig`` when None.
        mode: ``"min"`` or ``"max"``; likewise.
        sort_by_metric: show the best trials first; needs metric and mode.
    """

    def __init__(
        self,
        *,
        metric_columns: Columns | None = None,
        parameter_columns: Columns | None = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        self._chooses_metrics = metric_columns is None
        self._metric_columns: Columns = (
            dict(DEFAULT_COLUMNS) if metric_columns is None else _copied(metric_columns)
        )
        self._parameter_columns: Columns = _copied(parameter_columns or [])
        self._total_samples = total_samples
        self._max_progress_rows = max_progress_rows
        self._max_error_rows = max_error_rows
        self._max_column_length = max_column_length
        self._max_report_frequency = max_report_frequency
        self._infer_limit = infer_limit
        self._print_intermediate_tables = print_intermediate_tables
        self._metric = metric
        self._mode = mode
        self._sort_by_metric = sort_by_metric
        self._start_time = time.time()
        self._last_report_time = float("-inf")

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Take over what the run knows: its start, how many trials, metric and mode.

        Raises:
            ValueError: metric or mode are given both here and to the reporter.
        """
        for name, mine, theirs in (("metric", self._metric, metric), ("mode", self._mode, mode)):
            if mine and theirs:
                raise ValueError(
                    f"The reporter has {name}={mine!r}, and TuneConfig has {name}={theirs!r}. "
                    "Give it to one of them only."
                )
        if start_time is not None:
            self._start_time = start_time
        if total_samples is not None and self._total_samples is None:
            self._total_samples = total_samples
        self._metric = metric or self._metric
        self._mode = mode or self._mode
        if self._mode and self._metric is None:
            self._metric = DEFAULT_METRIC
        if self._sort_by_metric and not (self._metric and self._mode):
            warnings.warn(
                "sort_by_metric=True has no effect: it needs both metric and mode, from the "
                "reporter or from TuneConfig.",
                stacklevel=2,
            )

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Return True at the end of the run, and when ``max_report_frequency`` has passed."""
        now = time.monotonic()
        if not done and now - self._last_report_time < self._max_report_frequency:
            return False
        self._last_report_time = now
        return True

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Show progress; subclasses say where."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define report(trials, done, *sys_info)."
        )

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Show one more metric; metrics are then no longer found by themselves.

        Args:
            metric: its name; ``a/b`` for a nested one.
            representation: its heading; the default is the name.

        Raises:
            ValueError: it is shown already, or columns are a list and a heading is given.
        """
        self._chooses_metrics = False
        _add(self._metric_columns, "metric", metric, representation)

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Show one more parameter.

        Args:
            parameter: its name in the config; ``a/b`` for a nested one.
            representation: its heading; the default is the name.

        Raises:
            ValueError: it is shown already, or columns are a list and a heading is given.
        """
        _add(self._parameter_columns, "parameter", parameter, representation)

    def _tables(self, trials: list[Trial], done: bool, sys_info: tuple[str, ...]) -> TrialTables:
        from milepost.display.trial_table import TrialTables

        return TrialTables.of(
            trials,
            sys_info=sys_info,
            elapsed_s=time.time() - self._start_time,
            total=self._total_samples,
            metrics=_headings(self._metric_columns),
            infer=self._infer_limit if self._chooses_metrics else 0,
            parameters=_headings(self._parameter_columns),
            metric=self._metric,
            mode=self._mode,
            is_sorted=self._sort_by_metric,
            max_rows=None if done else self._max_progress_rows,
            max_errors=None if done else self._max_error_rows,
            has_table=done or self._print_intermediate_tables is not False,
            cell=self._max_column_length,
        )


class CLIReporter(TuneReporterBase):
    """Prints tables of trials as text. Mirrors ``ray.tune.CLIReporter``.

    Takes the arguments of :class:`TuneReporterBase`.

    Example:
        >>> reporter = CLIReporter(metric_columns=["loss"], max_report_frequency=30)
        >>> reporter.add_metric_column("accuracy")
    """

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Print the tables to standard output."""
        print(self._tables(trials, done, sys_info).text(), flush=True)


class JupyterNotebookReporter(TuneReporterBase):
    """Shows tables of trials in a notebook cell. Mirrors ``ray.tune.JupyterNotebookReporter``.

    Args:
        overwrite: replace what the cell shows already; default True.
        metric_columns: this and the rest as for :class:`TuneReporterBase`.
        parameter_columns: see there.
        total_samples: see there.
        max_progress_rows: see there.
        max_error_rows: see there.
        max_column_length: see there.
        max_report_frequency: see there.
        infer_limit: see there.
        print_intermediate_tables: see there.
        metric: see there.
        mode: see there.
        sort_by_metric: see there.
    """

    def __init__(
        self,
        *,
        overwrite: bool = True,
        metric_columns: Columns | None = None,
        parameter_columns: Columns | None = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        super().__init__(
            metric_columns=metric_columns,
            parameter_columns=parameter_columns,
            total_samples=total_samples,
            max_progress_rows=max_progress_rows,
            max_error_rows=max_error_rows,
            max_column_length=max_column_length,
            max_report_frequency=max_report_frequency,
            infer_limit=infer_limit,
            print_intermediate_tables=print_intermediate_tables,
            metric=metric,
            mode=mode,
            sort_by_metric=sort_by_metric,
        )
        from milepost.display.notebook import in_notebook

        if not in_notebook():
            warnings.warn(
                "JupyterNotebookReporter is used outside a notebook; its tables will show as "
                "'<IPython.core.display.HTML object>'. CLIReporter prints them as text.",
                stacklevel=2,
            )
        self._overwrite = overwrite
        self._update: Callable[[Any], None] | None = None

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Show the tables in the cell, in the place of the previous ones."""
        from IPython.display import HTML, clear_output, display

        tables = HTML(self._tables(trials, done, sys_info).html())
        if self._update is None:
            if self._overwrite and "ipykernel" in sys.modules:
                clear_output(wait=True)
            self._update = display(tables, display_id=True).update
        else:
            self._update(tables)


def _copied(columns: Columns) -> Columns:
    return dict(columns) if isinstance(columns, Mapping) else list(columns)


def _headings(columns: Columns) -> dict[str, str]:
    return dict(columns) if isinstance(columns, dict) else {name: name for name in columns}


def _add(columns: Columns, what: str, name: str, heading: str | None) -> None:
    if name in columns:
        raise ValueError(f"There is a column for the {what} {name!r} already.")
    if isinstance(columns, dict):
        columns[name] = heading or name
        return
    if heading not in (None, name):
        raise ValueError(
            f"The reporter's {what} columns are a list, which has no headings: {heading!r} for "
            f"{name!r} cannot be shown. Give {what}_columns as a dict."
        )
    columns.append(name)
