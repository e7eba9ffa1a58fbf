"""The tables of progress reporters: trials as callbacks see them, columns as the user chose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from milepost.api.nested import flatten_dict
from milepost.api.numbers import as_float
from milepost.display import html, text
from milepost.display.columns import is_number, metric_names, parameter_names
from milepost.display.format import duration, first_line, shorten, value
from milepost.display.table import Column, Table

if TYPE_CHECKING:
    from milepost.control.facade import Trial

#: Order of rows: what goes on first.
_ORDER = ("RUNNING", "PAUSED", "PENDING", "TERMINATED", "ERROR")
#: Text tables of reporters are as wide as their columns need.
_UNLIMITED = 10_000


@dataclass(frozen=True, slots=True)
class TrialTables:
    """Lines about a run, its trials and its errors."""

    lines: tuple[str, ...]
    trials: Table
    errors: Table

    @classmethod
    def of(
        cls,
        trials: Sequence[Trial],
        *,
        sys_info: Sequence[str],
        elapsed_s: float,
        total: int | None,
        metrics: Mapping[str, str],
        infer: int,
        parameters: Mapping[str, str],
        metric: str | None,
        mode: str | None,
        is_sorted: bool,
        max_rows: int | None,
        max_errors: int | None,
        has_table: bool,
        cell: int,
    ) -> TrialTables:
        """Lay the tables out.

        Args:
            trials: all trials.
            sys_info: lines about resources.
            elapsed_s: seconds since the run started.
            total: how many trials there will be, if known.
            metrics: metric -> heading.
            infer: how many further metrics are found in what trials report.
            parameters: parameter -> heading; empty for the searched ones.
            metric: what decides which trial is best.
            mode: ``"min"`` or ``"max"``.
            is_sorted: whether the best come first.
            max_rows: rows of the first table; None for all.
            max_errors: rows of the second; None for all.
            has_table: whether there is a table of trials at all.
            cell: longest cell or heading.
        """
        trials = list(trials)  # those that have ended are loaded each time they are looked at
        rows = {trial.trial_id: flatten_dict(trial.last_result) for trial in trials}
        found = metric_names(rows.values(), limit=infer + len(metrics)) if infer else []
        extra = [name for name in found if name not in metrics][:infer]
        ranked = _ranked(trials, rows, metric, mode)
        ordered = (
            [*ranked, *(trial for trial in trials if trial not in ranked)]
            if is_sorted and ranked
            else sorted(trials, key=lambda trial: _ORDER.index(trial.status))
        )
        shown = ordered[:max_rows] if has_table else []
        return cls(
            lines=(
                f"{duration(elapsed_s)} since the start. Trials: {_counts(trials, total)}",
                *sys_info,
                *_best_line(ranked, rows, metric),
            ),
            trials=_trials(
                shown,
                rows,
                metrics={**metrics, **{name: name for name in extra}},
                parameters=parameters,
                more=len(ordered) - len(shown) if has_table else 0,
                cell=cell,
            ),
            errors=_errors(trials, max_errors),
        )

    def text(self) -> str:
        """Return everything as lines of text."""
        blocks = [
            list(self.lines),
            text.table_lines(self.trials, width=_UNLIMITED),
            text.table_lines(self.errors, width=_UNLIMITED),
        ]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"

    def html(self) -> str:
        """Return everything as HTML."""
        lines = "".join(f"<div>{escape(line)}</div>" for line in self.lines)
        return html.wrap(lines + html.table_html(self.trials) + html.table_html(self.errors))


def _trials(
    trials: Sequence[Trial],
    rows: Mapping[str, Mapping[str, Any]],
    *,
    metrics: Mapping[str, str],
    parameters: Mapping[str, str],
    more: int,
    cell: int,
) -> Table:
    wanted = dict(parameters) or {
        name: name.rpartition("/")[2]
        for name in parameter_names((t.evaluated_params for t in trials), limit=20)
    }
    columns = [
        Column("Trial name", 100),
        Column("status", 90),
        *(Column(shorten(heading, cell), 50, numeric=True) for heading in wanted.values()),
        *(Column(shorten(heading, cell), 60, numeric=True) for heading in metrics.values()),
    ]
    cells = []
    for trial in trials:
        row = rows[trial.trial_id]
        config = {**flatten_dict(trial.config), **trial.evaluated_params}
        cells.append(
            (
                str(trial),
                trial.status,
                *(shorten(value(config.get(name)), cell) for name in wanted),
                *(shorten(value(row.get(name)), cell) for name in metrics),
            )
        )
    return Table(tuple(columns), tuple(cells), more)


def _errors(trials: Sequence[Trial], limit: int | None) -> Table:
    failed = [trial for trial in trials if trial.error_file]
    shown = failed[:limit]
    columns = (Column("Trial name", 100), Column("error", 90), Column("error file", 95))
    rows = tuple(
        (str(trial), shorten(first_line(str(trial.get_error() or "")), 100), str(trial.error_file))
        for trial in shown
    )
    return Table(columns, rows, len(failed) - len(shown))


def _counts(trials: Sequence[Trial], total: int | None) -> str:
    counts = Counter(trial.status for trial in trials)
    told = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
    of = f"{len(trials)}/{total}" if total else str(len(trials))
    return f"{of} ({told})" if told else of


def _ranked(
    trials: Sequence[Trial],
    rows: Mapping[str, Mapping[str, Any]],
    metric: str | None,
    mode: str | None,
) -> list[Trial]:
    """Trials with a finite score, the best first."""
    if metric is None or mode not in ("min", "max"):
        return []
    sign = -1.0 if mode == "max" else 1.0
    scored: list[tuple[float, Trial]] = []
    for trial in trials:
        score = rows[trial.trial_id].get(metric)
        if is_number(score) and math.isfinite(number := as_float(score)):
            scored.append((sign * number, trial))
    return [trial for _, trial in sorted(scored, key=lambda pair: pair[0])]


def _best_line(
    ranked: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]], metric: str | None
) -> list[str]:
    if not ranked or metric is None:
        return []
    best = ranked[0]
    given = ", ".join(f"{name}={value(item)}" for name, item in best.evaluated_params.items())
    told = f" with {given}" if given else ""
    return [f"Best so far: {best}, {metric}={value(rows[best.trial_id][metric])}{told}"]
