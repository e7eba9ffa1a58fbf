"""What there is to see of a run, as text in places: the one renderer behind all surfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from milepost.api.nested import flatten_dict
from milepost.display.columns import metric_names, parameter_names
from milepost.display.format import amount, duration, first_line, shorten, size, value
from milepost.display.table import Column, Table

if TYPE_CHECKING:
    from milepost.control.view import RunView, TrialView

#: How the statuses are called, in the order in which they are told.
STATUS_WORDS = {
    "RUNNING": "running",
    "PENDING": "pending",
    "PAUSED": "paused",
    "TERMINATED": "ended",
    "ERROR": "failed",
    "UNFINISHED": "unfinished",
}
#: Longest cell of a parameter or metric.
CELL = 20
#: Rows of the table at the end of a run.
FINAL_ROWS = 20
#: Rows of the table of errors while the run goes on.
LIVE_ERRORS = 5
#: Longest trial name in a table.
NAME = 40
#: Longest error in the table of errors.
ERROR = 200


@dataclass(frozen=True, slots=True)
class Picture:
    """A run at one moment.

    Attributes:
        title: the experiment and how far it is.
        facts: labelled lines: trials by status, resources, checkpoints, best so far.
        trials: the running trials, or all of them at the end.
        errors: trials that failed, with why.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    trials: Table
    errors: Table


def live_picture(view: RunView, *, max_rows: int) -> Picture:
    """Return what to show while a run goes on: the trials that run, at most ``max_rows``."""
    running = view.running
    shown = list(running[:max_rows])
    return _picture(view, shown, more=len(running) - len(shown), max_errors=LIVE_ERRORS)


def final_picture(view: RunView) -> Picture:
    """Return what stands at the end of a run: its trials, the best first if it is known which."""
    shown = list(view.trials(FINAL_ROWS))
    # A run that failed before it had taken in its earlier trials counts fewer than it shows.
    more = max(0, sum(view.counts.values()) - len(shown))
    return _picture(view, shown, more=more, max_errors=FINAL_ROWS)


def title(view: RunView) -> str:
    """Return the experiment's name, how many trials have ended, and the time so far."""
    ended = view.counts.get("TERMINATED", 0) + view.counts.get("ERROR", 0)
    of = f" of {view.total}" if view.total is not None else ""
    return f"{view.name}: {ended}{of} trials ended, {duration(view.elapsed_s)}"


def facts(view: RunView) -> list[tuple[str, str]]:
    """Return labelled lines about the run as a whole; a line without text is not shown."""
    return [
        ("Trials", status_counts(view)),
        ("Resources", resources(view)),
        ("Checkpoints", checkpoints(view)),
        ("Best", best(view)),
    ]


def status_counts(view: RunView) -> str:
    """Return how many trials there are by status: ``2 running, 5 ended``."""
    counted = [(view.counts.get(status, 0), word) for status, word in STATUS_WORDS.items()]
    return ", ".join(f"{count} {word}" for count, word in counted if count)


def resources(view: RunView) -> str:
    """Return what is in use: ``2/4 CPU, 0.5/1 GPU``; kinds that do not exist are left out."""
    return ", ".join(
        f"{amount(view.resources_used.get(kind, 0))}/{amount(total)} {kind}"
        for kind, total in view.resources_total.items()
        if total
    )


def checkpoints(view: RunView) -> str:
    """Return how many are committed, their bytes, and how many commits are still under way."""
    if not view.committed_count and not view.pending_commits:
        return ""
    text = f"{view.committed_count} committed ({size(view.committed_bytes)})"
    return text + (f", {view.pending_commits} on the way" if view.pending_commits else "")


def best(view: RunView) -> str:
    """Return the best trial so far, its score and its parameters."""
    trial = view.best
    if trial is None or view.metric is None:
        return ""
    score = flatten_dict(trial.row).get(view.metric)
    text = f"{view.metric}={value(score)} by {trial.name} at iteration {trial.iteration}"
    given = variables(trial.evaluated)
    return f"{text} ({given})" if given else text


def variables(searched: Mapping[str, Any]) -> str:
    """Return a trial's searched parameters: ``lr=0.01, layers=2``."""
    return ", ".join(
        f"{_short_name(name)}={shorten(value(item), CELL)}" for name, item in searched.items()
    )


def metrics(row: Mapping[str, Any], *, first: str | None, limit: int = 6) -> str:
    """Return the user's metrics in a row: ``loss=0.1, accuracy=0.97``."""
    flat = flatten_dict(row)
    return ", ".join(
        f"{name}={shorten(value(flat[name]), CELL)}"
        for name in metric_names([flat], first=first, limit=limit)
        if name in flat
    )


def _picture(view: RunView, trials: Sequence[TrialView], *, more: int, max_errors: int) -> Picture:
    return Picture(
        title=title(view),
        facts=tuple((label, text) for label, text in facts(view) if text),
        trials=_trial_table(view, trials, more=more),
        errors=_error_table(view.failed, max_errors),
    )


def _trial_table(view: RunView, trials: Sequence[TrialView], *, more: int) -> Table:
    flat = [flatten_dict(trial.row) for trial in trials]
    parameter_keys = parameter_names(trial.evaluated for trial in trials)
    metric_keys = metric_names(flat, first=view.metric)
    columns = [
        Column("trial", 100),
        Column("status", 30),
        *(Column(_short_name(key), 60 - i, numeric=True) for i, key in enumerate(parameter_keys)),
        Column("iter", 70, numeric=True),
        Column("time", 40, numeric=True),
        *(
            Column(shorten(key, CELL), 90 if key == view.metric else 66 - i, numeric=True)
            for i, key in enumerate(metric_keys)
        ),
        Column("checkpoint", 50, numeric=True),
    ]
    rows = tuple(
        (
            shorten(trial.name, NAME),
            STATUS_WORDS.get(trial.status, trial.status.lower()),
            *(shorten(value(trial.evaluated.get(key)), CELL) for key in parameter_keys),
            str(trial.iteration) if trial.row else "",
            duration(row["time_total_s"]) if "time_total_s" in row else "",
            *(shorten(value(row.get(key)), CELL) for key in metric_keys),
            "" if trial.latest_checkpoint is None else f"{trial.latest_checkpoint:06d}",
        )
        for trial, row in zip(trials, flat, strict=True)
    )
    return Table(tuple(columns), rows, more)


def _error_table(failed: Sequence[TrialView], max_rows: int) -> Table:
    shown = list(failed[-max_rows:])
    return Table(
        (
            Column("failed trial", 100),
            Column("failures", 50, numeric=True),
            Column("error", 95, is_text=True),
        ),
        tuple(
            (
                shorten(trial.name, NAME),
                str(trial.failures),
                shorten(first_line(trial.error or ""), ERROR),
            )
            for trial in shown
        ),
        more=len(failed) - len(shown),
    )


def _short_name(path: str) -> str:
    """The last part of a parameter's path, as in experiment tags."""
    return shorten(path.rpartition("/")[2] or path, CELL)
