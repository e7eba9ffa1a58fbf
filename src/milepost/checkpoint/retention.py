"""Which checkpoints of a trial stay. Pure: no files, no clock.

Policies say what to keep and why; several of them together keep what any of them keeps. Whatever
they say, the latest checkpoint and all pinned ones stay. Ordering is by index, never by name or
file time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, Protocol

Order = Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed checkpoint, as far as retention looks at it.

    Attributes:
        index: its number; a higher one is newer.
        iteration: ``training_iteration`` of its row.
        time: when it was committed, in seconds.
        metrics: its row in the flat form of :func:`milepost.api.nested.flatten_dict`, so that a
            nested score is found under ``a/b``.
    """

    index: int
    iteration: int = 0
    time: float = 0.0
    metrics: Mapping[str, object] = field(default_factory=dict)


class Policy(Protocol):
    """A rule that says which checkpoints are worth keeping."""

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Return the indices to keep, each with the reason.

        Args:
            entries: the committed checkpoints of a trial, oldest first.
            now: the current time, on the clock of :attr:`Entry.time`.
        """


@dataclass(frozen=True, slots=True)
class KeepAll:
    """Keeps every checkpoint."""

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep all; see :meth:`Policy.kept`."""
        return {entry.index: "all checkpoints are kept" for entry in entries}


@dataclass(frozen=True, slots=True)
class LatestN:
    """Keeps the newest ``count`` checkpoints."""

    count: int

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep the newest ones; see :meth:`Policy.kept`."""
        reason = f"one of the newest {self.count}"
        return {entry.index: reason for entry in entries[-self.count :]}


@dataclass(frozen=True, slots=True)
class BestN:
    """Keeps the ``count`` checkpoints with the best scores; see :func:`ranked`."""

    metric: str
    order: Order = "max"
    count: int = 1

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep the best ones; see :meth:`Policy.kept`."""
        best = ranked(entries, self.metric, self.order)[-self.count :]
        return {entry.index: self._reason(entry) for entry in best}

    def _reason(self, entry: Entry) -> str:
        value = score(entry, self.metric)
        if value is None:
            return f"has no valid {self.metric!r}, but fewer than {self.count} others have"
        return f"one of the best {self.count} by {self.metric!r} ({self.order}): {value}"


@dataclass(frozen=True, slots=True)
class EveryNIterations:
    """Keeps the first checkpoint at or after each multiple of ``interval`` iterations."""

    interval: int

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep one per interval; see :meth:`Policy.kept`."""
        first: dict[int, int] = {}
        for entry in entries:
            if multiple := entry.iteration // self.interval:
                first.setdefault(multiple, entry.index)
        return {
            index: f"first at or after iteration {multiple * self.interval}"
            for multiple, index in first.items()
        }


@dataclass(frozen=True, slots=True)
class EveryNSeconds:
    """Keeps the oldest checkpoint, and each ``interval`` seconds newer than the last one kept."""

    interval: float

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep one per interval; see :meth:`Policy.kept`."""
        reasons: dict[int, str] = {}
        last: float | None = None
        for entry in entries:
            if last is None or entry.time - last >= self.interval:
                reasons[entry.index] = f"one every {self.interval:g} s"
                last = entry.time
        return reasons


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """Keeps checkpoints that are younger than ``seconds``."""

    seconds: float

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep the young ones; see :meth:`Policy.kept`."""
        reason = f"younger than {self.seconds:g} s"
        return {entry.index: reason for entry in entries if now - entry.time < self.seconds}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Keeps what any of several policies keeps."""

    policies: tuple[Policy, ...]

    def kept(self, entries: Sequence[Entry], now: float) -> Mapping[int, str]:
        """Keep the union; the first policy's reason counts. See :meth:`Policy.kept`."""
        reasons: dict[int, str] = {}
        for policy in reversed(self.policies):
            reasons.update(policy.kept(entries, now))
        return reasons


@dataclass(frozen=True, slots=True)
class Plan:
    """What stays and what goes.

    Attributes:
        keep: indices that stay, oldest first.
        drop: indices that may be deleted, oldest first.
        reasons: for every index, why.
    """

    keep: tuple[int, ...]
    drop: tuple[int, ...]
    reasons: Mapping[int, str]


def from_config(num_to_keep: int | None, attribute: str | None, order: str | None) -> Policy:
    """Return the policy that the fields of ``CheckpointConfig`` mean."""
    if num_to_keep is None:
        return KeepAll()
    if attribute is None:
        return LatestN(num_to_keep)
    return BestN(attribute, "min" if order == "min" else "max", num_to_keep)


def plan(
    entries: Iterable[Entry],
    policy: Policy,
    pins: Mapping[int, str] | None = None,
    *,
    now: float = 0.0,
) -> Plan:
    """Decide which checkpoints of a trial stay.

    Args:
        entries: its committed checkpoints, in any order.
        policy: what is worth keeping.
        pins: indices that somebody refers to, each with who does; they stay.
        now: the current time, on the clock of :attr:`Entry.time`.

    Returns:
        A decision for every entry. The latest one always stays.
    """
    ordered = sorted(entries, key=lambda entry: entry.index)
    if not ordered:
        return Plan((), (), {})
    reasons = dict(policy.kept(ordered, now))
    for index, reason in (pins or {}).items():
        reasons[index] = f"pinned: {reason}"
    reasons.setdefault(ordered[-1].index, "the latest checkpoint is always kept")
    keep = tuple(entry.index for entry in ordered if entry.index in reasons)
    drop = tuple(entry.index for entry in ordered if entry.index not in reasons)
    known = {index: reasons[index] for index in keep}
    return Plan(keep, drop, known | dict.fromkeys(drop, f"not kept by {policy}"))


def explain(decided: Plan) -> list[str]:
    """Return one line per checkpoint that says whether it stays and why, oldest first."""
    kept = set(decided.keep)
    return [
        f"checkpoint {index:06d} {'stays' if index in kept else 'goes'}: {decided.reasons[index]}"
        for index in sorted(decided.reasons)
    ]


def ranked(entries: Iterable[Entry], metric: str | None, order: str | None = "max") -> list[Entry]:
    """Return checkpoints by ascending goodness: the last is the best.

    Entries without a valid score (missing, None, NaN, bool, text, ...) come before all scored ones.
    Of equals the newer counts as better. Without a metric the newest is the best.
    """
    by_age = sorted(entries, key=lambda entry: entry.index)
    if metric is None:
        return by_age
    scored = [(value, entry) for entry in by_age if (value := score(entry, metric)) is not None]
    valid = {entry.index for _, entry in scored}
    # Sorting is stable in both directions, so equals keep their order by age only when ascending.
    sign = -1 if order == "min" else 1
    scored.sort(key=lambda pair: sign * pair[0])
    return [entry for entry in by_age if entry.index not in valid] + [entry for _, entry in scored]


def score(entry: Entry, metric: str) -> Any:
    """Return the number under a flat metric name, or None if there is no valid one."""
    value = entry.metrics.get(metric)
    if isinstance(value, bool) or not isinstance(value, Real) or value != value:
        return None
    return value
