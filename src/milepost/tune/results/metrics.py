"""What a trial's numeric metrics amount to over all of its rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from milepost.api.fields import DEBUG_METRICS
from milepost.api.nested import flatten_dict

Analysis = dict[str, dict[str, float]]

_WINDOWS = (5, 10)


def analyse(rows: Iterable[Mapping[str, Any]]) -> Analysis:
    """Return max, min, avg, last, last-5-avg and last-10-avg of each numeric metric.

    Args:
        rows: all rows of a trial in order, nested or flat.

    Returns:
        Flat name (``a/b``) -> the six numbers. Fields that tell where a row comes from, such as
        ``pid``, are left out.
    """
    sums: dict[str, list[float]] = {}
    latest: dict[str, deque[float]] = {}
    analysis: Analysis = {}
    for row in rows:
        told = {name: value for name, value in row.items() if name not in DEBUG_METRICS}
        for name, value in flatten_dict(told).items():
            if not isinstance(value, int | float):
                continue
            known = analysis.setdefault(name, {"max": value, "min": value})
            known["max"] = max(known["max"], value)
            known["min"] = min(known["min"], value)
            known["last"] = value
            count_and_sum = sums.setdefault(name, [0, 0.0])
            count_and_sum[0] += 1
            count_and_sum[1] += value
            latest.setdefault(name, deque(maxlen=max(_WINDOWS))).append(value)
    for name, known in analysis.items():
        count, total = sums[name]
        known["avg"] = total / count
        for window in _WINDOWS:
            values = list(latest[name])[-window:]
            known[f"last-{window}-avg"] = sum(values) / len(values)
    return analysis
