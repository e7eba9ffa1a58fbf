"""What a trial's numeric metrics amount to so far, kept up with each row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from milepost.api.fields import DEBUG_METRICS
from milepost.api.nested import flatten_dict
from milepost.api.numbers import bounded

#: Flat metric -> max, min, avg, last, last-5-avg, last-10-avg.
Analysis = dict[str, dict[str, float]]

_SCOPES = ("max", "min", "avg", "last", "last-5-avg", "last-10-avg")
_DEBUG = frozenset(DEBUG_METRICS)
_NUMBERS = frozenset({float, int, bool})
_PLAIN = _NUMBERS | {str, type(None)}


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """The flat form of a row: nested names are joined with ``/``.

    Same as :func:`flatten_dict`, but quick for what most rows are: flat but for ``config``.
    """
    flat: dict[str, Any] = {}
    nested = []
    for name, value in row.items():
        if type(value) in _PLAIN:
            flat[name] = value
        elif isinstance(value, Mapping):
            nested.append((name, value))
        else:
            flat[name] = value
    for name, inner in nested:
        for key, value in inner.items():
            if type(value) not in _PLAIN and isinstance(value, Mapping):
                return flatten_dict(row)
            flat[f"{name}/{key}"] = value
    return flat


class _Running:
    """One metric of one trial."""

    __slots__ = ("count", "last", "latest", "max", "min", "sum")

    def __init__(self, value: Any) -> None:
        self.max = self.min = self.last = self.sum = value
        self.count = 1
        self.latest: deque[Any] = deque((value,), maxlen=10)

    def add(self, value: Any) -> None:
        # NaN loses against numbers, so that one bad row does not hide all others.
        if value > self.max or self.max != self.max:
            self.max = value
        if value < self.min or self.min != self.min:
            self.min = value
        self.last = value
        self.sum += value
        self.count += 1
        self.latest.append(value)

    def go_on(self, later: _Running) -> None:
        """Take in what came after."""
        if later.max > self.max or self.max != self.max:
            self.max = later.max
        if later.min < self.min or self.min != self.min:
            self.min = later.min
        self.last = later.last
        self.sum += later.sum
        self.count += later.count
        self.latest.extend(later.latest)

    def numbers(self) -> tuple[float, ...]:
        """In the order of the scopes."""
        last_10 = list(self.latest)
        last_5 = last_10[-5:]
        return (
            self.max,
            self.min,
            self.sum / self.count,
            self.last,
            sum(last_5) / len(last_5),
            sum(last_10) / len(last_10),
        )


class RunningMetrics:
    """All numeric metrics of one trial.

    Fields that tell where a row comes from, such as ``pid`` and ``config``, are no metrics.

    Args:
        earlier: rows from before a restore; read when somebody asks for more than the last value.
    """

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        self._metrics: dict[str, _Running] = {}
        self._earlier = earlier

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in one row."""
        for name, value in row.items():
            if name in _DEBUG:
                continue
            if type(value) in _NUMBERS:
                self._add(name, value)
            elif isinstance(value, Mapping):
                for inner, member in flatten(value).items():
                    if isinstance(member, Real):
                        self._add(f"{name}/{inner}", member)
            elif isinstance(value, Real):
                self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        value = bounded(value)
        known = self._metrics.get(name)
        if known is None:
            self._metrics[name] = _Running(value)
        else:
            known.add(value)

    def packed(self) -> dict[str, tuple[float, ...]] | None:
        """Compact form for :func:`unpacked`; None when earlier rows have not been read."""
        return self._numbers() if self._earlier == () else None

    def analysis(self) -> Analysis:
        """All scopes of all metrics."""
        if self._earlier != ():
            before = RunningMetrics()
            for row in self._earlier:
                before.add(row)
            for name, metric in self._metrics.items():
                if name in before._metrics:
                    before._metrics[name].go_on(metric)
                else:
                    before._metrics[name] = metric
            self._metrics, self._earlier = before._metrics, ()
        return unpacked(self._numbers())

    def _numbers(self) -> dict[str, tuple[float, ...]]:
        return {name: metric.numbers() for name, metric in self._metrics.items()}

    def last(self, name: str) -> Any:
        """The last value of a flat metric, or None."""
        known = self._metrics.get(name)
        return None if known is None else known.last


def unpacked(packed: Mapping[str, tuple[float, ...]]) -> Analysis:
    """Undo :meth:`RunningMetrics.packed`."""
    return {name: dict(zip(_SCOPES, numbers, strict=True)) for name, numbers in packed.items()}
