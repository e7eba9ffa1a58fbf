"""Meetings: what all workers of a trial have to say before any of them goes on.

A report, a barrier and a broadcast of several workers are meetings. Each worker says what it does;
when all have said the same, all are told to go on. When that cannot happen any more, because two do
different things, one has left, or one is silent for too long, those that wait are told why: nobody
waits for ever. Nothing here does I/O; times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from milepost.errors import CollectiveError, CollectiveTimeoutError


class Said(NamedTuple):
    """What one worker brings to a meeting.

    Attributes:
        what: what it does, as users call it, such as ``train.report()``.
        data: all get that of rank 0.
        note: all get those of all ranks.
        captures: it will capture a checkpoint when they have met.
    """

    what: str
    data: bytes = b""
    note: bytes = b""
    captures: bool = False


class Outcome(NamedTuple):
    """How a meeting ended, for those who wait in it.

    Attributes:
        trial_id: whose meeting it was.
        ranks: who waits.
        what: what they do.
        data: of rank 0.
        notes: by rank.
        capturing: those that will capture a checkpoint now.
        error: why it came to nothing.
    """

    trial_id: str
    ranks: tuple[int, ...]
    what: str
    data: bytes = b""
    notes: tuple[bytes, ...] = ()
    capturing: frozenset[int] = frozenset()
    error: CollectiveError | None = None


class Missing(NamedTuple):
    """A meeting that has taken long already, for the log."""

    trial_id: str
    what: str
    waiting: tuple[int, ...]
    missing: tuple[int, ...]
    waited_s: float


@dataclass(slots=True)
class _Group:
    size: int
    said: dict[int, Said] = field(default_factory=dict)
    since: float = 0.0
    warn_at: float = 0.0
    left: set[int] = field(default_factory=set)
    held: int = 0

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(rank for rank in range(self.size) if rank not in self.said)

    @property
    def what(self) -> str:
        return next(iter(self.said.values())).what


class Meetings:
    """The meetings of all trials that have several workers.

    Args:
        limit_s: how long the others may wait for a worker; None for ever.
        warn_s: how often it is said that they do.
    """

    def __init__(self, limit_s: float | None, warn_s: float) -> None:
        self._limit_s = limit_s
        self._warn_s = warn_s
        self._groups: dict[str, _Group] = {}

    def begin(self, trial_id: str, size: int) -> None:
        """Workers of a trial have been started; whatever came before is over."""
        self._groups[trial_id] = _Group(size)

    def end(self, trial_id: str) -> None:
        """The workers of a trial are gone; nobody is told."""
        self._groups.pop(trial_id, None)

    def say(self, trial_id: str, rank: int, said: Said, now: float) -> Outcome | None:
        """A worker says what it does, and waits.

        Returns:
            How the meeting ended, if it did.
        """
        group = self._groups.get(trial_id)
        if group is None:
            return None  # its workers are being killed
        if not group.said:
            group.since, group.warn_at = now, now + self._warn_s
        elif said.what != group.what:
            error = CollectiveError(
                f"rank {rank} called {said.what}, while {_waiting(group)} in {group.what} for it. "
                "All workers must make these calls in the same order, and equally often",
                missing_ranks=(rank,),
            )
            return self._over(trial_id, group, error, also=rank)
        group.said[rank] = said
        if group.left:
            return self._over(trial_id, group, _left(group))
        if group.missing:
            return None
        outcome = Outcome(
            trial_id,
            tuple(range(group.size)),
            group.what,
            group.said[0].data,
            tuple(group.said[each].note for each in range(group.size)),
            frozenset(each for each, said in group.said.items() if said.captures),
        )
        group.said = {}
        group.held += 1
        return outcome

    def leave(self, trial_id: str, rank: int) -> Outcome | None:
        """The training function of a worker has ended: it comes to no meeting any more."""
        group = self._groups.get(trial_id)
        if group is None:
            return None
        group.left.add(rank)
        return self._over(trial_id, group, _left(group)) if group.said else None

    def next_moment(self) -> float | None:
        """When :meth:`due` should be called next."""
        moments = []
        for group in self._groups.values():
            if group.said:
                moments.append(group.warn_at)
                if self._limit_s is not None:
                    moments.append(group.since + self._limit_s)
        return min(moments, default=None)

    def due(self, now: float) -> list[Outcome | Missing]:
        """Meetings that have taken too long, and those of which that is to be said."""
        found: list[Outcome | Missing] = []
        for trial_id, group in self._groups.items():
            if not group.said:
                continue
            waited_s = now - group.since
            if self._limit_s is not None and waited_s >= self._limit_s:
                error = CollectiveTimeoutError(
                    f"{_waiting(group)} in {group.what} for {_ranks(group.missing)}, which did not "
                    f"call it within {self._limit_s:g} s. All workers must call it equally often; "
                    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S sets the limit",
                    missing_ranks=group.missing,
                )
                found.append(self._over(trial_id, group, error))
            elif now >= group.warn_at:
                group.warn_at = now + self._warn_s
                found.append(
                    Missing(
                        trial_id, group.what, tuple(sorted(group.said)), group.missing, waited_s
                    )
                )
        return found

    def _over(
        self, trial_id: str, group: _Group, error: CollectiveError, *, also: int | None = None
    ) -> Outcome:
        ranks = sorted(group.said if also is None else {*group.said, also})
        outcome = Outcome(trial_id, tuple(ranks), group.what, error=error)
        group.said = {}
        return outcome


def _left(group: _Group) -> CollectiveError:
    left = tuple(sorted(group.left))
    function = "function has" if len(left) == 1 else "functions have"
    times = "once" if group.held == 1 else f"{group.held} times"
    return CollectiveError(
        f"{_waiting(group)} in {group.what} for {_ranks(left)}, whose training {function} ended "
        f"after all had met {times}. All workers must call it equally often",
        missing_ranks=left,
    )


def _waiting(group: _Group) -> str:
    ranks = tuple(sorted(group.said))
    return f"{_ranks(ranks)} {'waits' if len(ranks) == 1 else 'wait'}"


def _ranks(ranks: tuple[int, ...]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return "ranks " + ", ".join(str(rank) for rank in ranks[:-1]) + f" and {ranks[-1]}"
