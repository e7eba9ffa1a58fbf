"""Results, trials and tables made from the records of trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from milepost.tune.results import rows
from milepost.tune.results.lazy import Deferred
from milepost.tune.results.lookup import AUTO_FIELDS
from milepost.tune.results.result import Result

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.outcome import TrialFacts

_SHOWN_TRIALS = 50
_SHOWN_METRICS = 6


def result_of(
    record: TrialFacts, storage_filesystem: Any | None = None, kind: type[Result] = Result
) -> Result:
    """Return the result of a trial, as an object of a class."""
    from milepost.checkpoint.handle import Checkpoint

    kept = record.checkpoints
    best = kept[-record.num_to_keep :] if record.num_to_keep else kept
    latest = record.latest
    return kind(
        metrics=record.last_row,
        checkpoint=None if latest is None else Checkpoint.from_directory(latest[1]),
        error=Deferred(_error_of, record),
        path=record.directory,
        metrics_dataframe=Deferred(rows.frame, record.directory),
        best_checkpoints=[(Checkpoint.from_directory(path), row) for _, path, row in best],
        _storage_filesystem=storage_filesystem,
    )


def overview(caption: str, records: Sequence[TrialFacts]) -> str:
    """Return an HTML table of trials: status, searched variables, and what they reported."""
    from milepost.tune.results.html import table

    shown = list(islice(records, _SHOWN_TRIALS))
    flat = [_reported(record) for record in shown]
    variables = _names(record.evaluated for record in shown)
    metrics = _names(flat)[:_SHOWN_METRICS]
    lines = [
        [
            record.name,
            record.status,
            *(record.evaluated.get(name) for name in variables),
            record.last_row.get("training_iteration"),
            *(row.get(name) for name in metrics),
        ]
        for record, row in zip(shown, flat, strict=True)
    ]
    if len(records) > len(shown):
        caption += f" (the first {len(shown)})"
    return table(caption, ["trial", "status", *variables, "iteration", *metrics], lines)


def records_of(trials: Sequence[Any]) -> Sequence[TrialFacts]:
    """Return what is known of trials: records as they are, or those behind :class:`Trial`."""
    from milepost.control.facade import Trial

    if len(trials) and isinstance(trials[0], Trial):
        return [trial._facts for trial in trials]
    return trials


def trials_of(records: Iterable[TrialFacts]) -> list[Trial]:
    """Return the trials of a run that has ended, as callbacks see them."""
    from milepost.control.facade import Trial

    return [Trial(record) for record in records]


def _error_of(record: TrialFacts) -> Exception | str | None:
    return record.error


def _reported(record: TrialFacts) -> dict[str, Any]:
    from milepost.api.nested import flatten_dict

    said = {name: value for name, value in record.last_row.items() if name not in AUTO_FIELDS}
    return flatten_dict(said)


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """All keys in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))
