"""What there is to show of a run; everything is computed when it is asked for."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

from milepost.api.numbers import as_float
from milepost.errors import RayActorError, RayTaskError, labelled, summary

if TYPE_CHECKING:
    from milepost.control.ledger import Ledger
    from milepost.control.machine import Machine
    from milepost.control.outcome import TrialFacts
    from milepost.control.plan import RunPlan

# num_samples=-1 is a number of trials that no run reaches.
_UNLIMITED = 10**9


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial at one moment.

    Attributes:
        name: the trial's name.
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        evaluated: the searched variables, flat.
        row: its last row without ``config``; empty before the first.
        iteration: of that row.
        latest_checkpoint: number of the newest committed checkpoint, or None.
        failures: how many attempts failed.
        error: its last failure, for people.
    """

    name: str
    status: str
    evaluated: dict[str, Any]
    row: dict[str, Any]
    iteration: int
    latest_checkpoint: int | None
    failures: int
    error: str | None

    @classmethod
    def of(cls, facts: TrialFacts, latest_checkpoint: int | None) -> TrialView:
        """Look at a trial."""
        row = {key: value for key, value in facts.last_row.items() if key != "config"}
        error = facts.error
        return cls(
            name=facts.name,
            status=facts.status,
            evaluated=facts.evaluated,
            row=row if len(row) > 1 else {},
            iteration=row.get("training_iteration", 0),
            latest_checkpoint=latest_checkpoint,
            failures=facts.failures,
            error=None if error is None else _in_short(error),
        )


def _in_short(error: Exception | str) -> str:
    if isinstance(error, str):
        return error
    if isinstance(error, RayActorError):
        return labelled(type(error).__name__, error.message)
    return summary(error.cause if isinstance(error, RayTaskError) else error)


@dataclass(slots=True)
class Tally:
    """Numbers that are counted while the run goes on.

    Attributes:
        committed_count: checkpoints committed; ``committed_bytes`` their bytes.
        scores: id -> last value of the metric, of trials where it is a finite number.
        failed: ids of trials that failed for good, in order.
    """

    committed_count: int = 0
    committed_bytes: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def offer(self, trial_id: str, value: Any) -> None:
        """Take in a trial's new value of the metric; with one that is not finite it has none."""
        if isinstance(value, Real) and math.isfinite(score := as_float(value)):
            self.scores[trial_id] = score
        else:
            self.scores.pop(trial_id, None)


class _Views(Sequence[TrialView]):
    """Views of trials, each made when it is looked at."""

    def __init__(self, ids: Sequence[str], view: Callable[[str], TrialView]) -> None:
        self._ids = ids
        self._view = view

    @overload
    def __getitem__(self, index: int) -> TrialView: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrialView]: ...
    def __getitem__(self, index: int | slice) -> TrialView | Sequence[TrialView]:
        if isinstance(index, slice):
            return _Views(self._ids[index], self._view)
        return self._view(self._ids[index])

    def __len__(self) -> int:
        return len(self._ids)


class RunView:
    """A run at the moment when an attribute is read.

    Args:
        plan: of the run.
        machine: its state.
        ledger: its trials.
        tally: its numbers.
    """

    def __init__(self, plan: RunPlan, machine: Machine, ledger: Ledger, tally: Tally) -> None:
        self._plan = plan
        self._machine = machine
        self._ledger = ledger
        self._tally = tally
        self._began = time.monotonic()
        #: Whether the run is over, whatever ended it: then nothing runs any more.
        self.over = False

    @property
    def name(self) -> str:
        """The name of the experiment's directory, which may have been renamed."""
        return os.path.basename(self._plan.experiment.path)

    @property
    def path(self) -> str:
        """The experiment's directory."""
        return self._plan.experiment.path

    @property
    def metric(self) -> str | None:
        """The metric that is optimised, if any."""
        return self._plan.metric

    @property
    def mode(self) -> str | None:
        """``"min"`` or ``"max"``."""
        return self._plan.mode

    @property
    def total(self) -> int | None:
        """How many trials there will be, as far as known."""
        state = self._machine.state
        there = sum(state.counts.values())
        if state.search_ended and not state.stopping:
            return there
        # More than the search knows of, where an earlier run searched another space.
        total = max(self._plan.search.total_samples, there)
        return total if 0 < total < _UNLIMITED else None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        state = self._machine.state
        counts = Counter({self._seen(status): n for status, n in state.counts.items()})
        counts["TERMINATED"] -= len(state.unfinished)
        counts["UNFINISHED"] += len(state.unfinished)
        return dict(counts)

    @property
    def running(self) -> Sequence[TrialView]:
        """Trials that have a worker, in the order of their creation."""
        trials = self._machine.trials
        ids = sorted(self._machine.state.active, key=lambda trial_id: trials[trial_id].order)
        return _Views(ids, self._view)

    @property
    def failed(self) -> Sequence[TrialView]:
        """Trials that failed for good, in the order of their failure."""
        return _Views(self._tally.failed, self._view)

    def trials(self, limit: int) -> Sequence[TrialView]:
        """At most that many trials: the best first where a metric is optimised, else in order."""
        ids: Iterable[str] = self._ledger.ids
        scores = self._tally.scores
        if self.metric is not None and self.mode is not None:
            sign = -1.0 if self.mode == "max" else 1.0
            ranked = sorted(scores, key=lambda trial_id: sign * scores[trial_id])
            ids = itertools.chain(ranked, (i for i in self._ledger.ids if i not in scores))
        return _Views(list(itertools.islice(ids, limit)), self._view)

    @property
    def best(self) -> TrialView | None:
        """The trial whose last value of the metric is the best, as in the final results."""
        scores = self._tally.scores
        if not scores or self.mode is None:
            return None
        better = max if self.mode == "max" else min
        return self._view(better(scores, key=scores.__getitem__))

    @property
    def resources_used(self) -> dict[str, float]:
        """What trials hold now."""
        pool = self._machine.state.pool
        return dict.fromkeys(pool.total, 0.0) if self.over else pool.used

    @property
    def resources_total(self) -> dict[str, float]:
        """What trials may hold together."""
        return self._machine.state.pool.total

    @property
    def committed_count(self) -> int:
        """Checkpoints committed so far."""
        return self._tally.committed_count

    @property
    def committed_bytes(self) -> int:
        """Their bytes."""
        return self._tally.committed_bytes

    @property
    def pending_commits(self) -> int:
        """Checkpoints captured and not yet committed."""
        trials = self._machine.trials
        state = self._machine.state
        return sum(len(trials[trial_id].inflight) for trial_id in (*state.active, *state.settling))

    def _seen(self, status: str) -> str:
        """A trial that was running when something ended the run is unfinished."""
        return "UNFINISHED" if self.over and status == "RUNNING" else str(status)

    def _view(self, trial_id: str) -> TrialView:
        view = self._view_now(trial_id)
        if trial_id in self._machine.state.unfinished:
            return replace(view, status="UNFINISHED")
        return replace(view, status=self._seen(view.status)) if self.over else view

    def _view_now(self, trial_id: str) -> TrialView:
        trial = self._ledger.live.get(trial_id)
        if trial is None:
            record = self._ledger.record(trial_id)
            return TrialView.of(record, record.latest_index)
        latest = None if trial.state is None else trial.state.latest
        return TrialView.of(trial, None if latest is None else latest.index)
