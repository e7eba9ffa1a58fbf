"""Which trial is the best, by a metric over its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.spelling import did_you_mean
from milepost.tune.results.lookup import check_mode, is_comparable, score

if TYPE_CHECKING:
    from milepost.control.outcome import TrialFacts

SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")


def resolve(
    metric: str | None, mode: str | None, default_metric: str | None, default_mode: str | None
) -> tuple[str, str]:
    """Return the metric and mode to compare by.

    Args:
        metric: as the caller gave it, or None.
        mode: as the caller gave it, or None.
        default_metric: the run's own metric.
        default_mode: the run's own mode.

    Raises:
        ValueError: one of them is given nowhere, or the mode is unknown.
    """
    chosen_mode = mode or default_mode
    chosen_metric = metric or default_metric
    if chosen_metric is None or chosen_mode is None:
        missing = " and ".join(
            name
            for name, value in (("metric", chosen_metric), ("mode", chosen_mode))
            if value is None
        )
        raise ValueError(
            f"No {missing} to choose by: the run was made without one. Pass metric=... and "
            "mode='min' or 'max' here, or set both in TuneConfig."
        )
    return chosen_metric, check_mode(chosen_mode)


def check_scope(scope: str) -> str:
    """Return a valid scope.

    Raises:
        ValueError: it is not one of :data:`SCOPES`.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}." + did_you_mean(scope, SCOPES))
    return scope


def best_index(
    records: Iterable[TrialFacts],
    metric: str,
    mode: str,
    scope: str = "last",
    filter_nan_and_inf: bool = True,
) -> int | None:
    """Return the position of the best trial; the first one wins a tie.

    Args:
        records: the trials, each looked at once.
        metric: flat name of the metric (``a/b``).
        mode: ``"min"`` or ``"max"``.
        scope: which of a trial's values counts: the last, the best of all, or an average.
        filter_nan_and_inf: whether NaN and infinite values are left out; otherwise infinities
            compare as numbers and NaN loses against everything.

    Returns:
        None when no trial has a value that counts.
    """
    check_scope(scope)
    key = check_mode(mode) if scope == "all" else scope
    sign = 1.0 if mode == "max" else -1.0
    best: tuple[bool, float] | None = None
    position = None
    for i, record in enumerate(records):
        value = score(record.analysis.get(metric, {}).get(key))
        if value is None or (filter_nan_and_inf and not is_comparable(value)):
            continue
        is_number = value == value
        rank = (is_number, sign * value if is_number else 0.0)
        if best is None or rank > best:
            best, position = rank, i
    return position


def no_best(records: Iterable[TrialFacts], metric: str) -> str:
    """Return the message for a metric that no trial has a usable value of."""
    total = 0
    with_metric = 0
    known: set[str] = set()
    for record in records:
        total += 1
        analysis: Mapping[str, Any] = record.analysis
        with_metric += metric in analysis
        known.update(analysis)
    if with_metric:
        return (
            f"No best trial for metric {metric!r}: {with_metric} of {total} trials reported it, "
            "always as NaN or infinite. Pass filter_nan_and_inf=False to let them count."
        )
    return (
        f"No best trial for metric {metric!r}: none of the {total} trials reported it as a number."
        + did_you_mean(metric, known)
    )
