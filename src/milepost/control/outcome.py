"""What a run leaves in memory: a compact record per trial, decoded when it is looked at."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import msgspec

from milepost.api.fields import DONE
from milepost.api.resources import PlacementGroupFactory
from milepost.checkpoint import retention
from milepost.checkpoint.manifest import checkpoint_name
from milepost.control import problems
from milepost.control.checkpoints import Checkpoint
from milepost.control.earlier_rows import logged
from milepost.control.metrics import Analysis, RunningMetrics, unpacked
from milepost.journal.objects import Objects
from milepost.storage import codec, names

#: A kept checkpoint: its number, its directory, and the row it was reported with.
Kept = tuple[int, str, dict[str, Any]]


class TrialFacts(Protocol):
    """What can be known of a trial, whether it runs, has ended, or is read from storage.

    Attributes:
        experiment_path: the experiment's directory, absolute.
        directory: its own, absolute.
        evaluated: the searched variables, flat.
        last_row: the last row with ``config``, ``done`` and ``experiment_tag``; the trial's id
            alone before the first.
        checkpoints: the kept ones, the best last.
        latest: the newest one.
        error: why it failed; None when it ended well.
        analysis: what its numeric metrics amount to.
        failures: how many attempts failed.
        num_to_keep: how many checkpoints count as the best; None for all.
    """

    @property
    def trial_id(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def experiment_path(self) -> str: ...  # noqa: D102
    @property
    def directory(self) -> str: ...  # noqa: D102
    @property
    def config(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def evaluated(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def tag(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def last_row(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def checkpoints(self) -> list[Kept]: ...  # noqa: D102
    @property
    def latest(self) -> Kept | None: ...  # noqa: D102
    @property
    def error(self) -> Exception | str | None: ...  # noqa: D102
    @property
    def analysis(self) -> Analysis: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102
    @property
    def num_to_keep(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What all trials of a run have in common.

    Attributes:
        root: the experiment's directory.
        trainable_name: name of the function or class.
        max_failures: how often a failed trial is tried again; -1 without limit.
        metric: what ranks checkpoints; None ranks by age.
        order: ``"max"`` or ``"min"``.
        num_to_keep: how many checkpoints count as the best; None for all.
    """

    root: str
    trainable_name: str = ""
    max_failures: int = 0
    metric: str | None = None
    order: str | None = "max"
    num_to_keep: int | None = None

    def ranked(self, checkpoints: Sequence[Checkpoint]) -> list[int]:
        """Indices by ascending goodness."""
        if self.metric is None:
            return sorted(c.index for c in checkpoints)
        entries = [retention.Entry(c.index, metrics={self.metric: c.score}) for c in checkpoints]
        return [entry.index for entry in retention.ranked(entries, self.metric, self.order)]


class Ended(NamedTuple):
    """A trial as it is kept: strings, encoded values and numbers only.

    Attributes:
        row: the last row; None if there was none.
        checkpoints: numbers and rows of the kept ones, the best last.
        dir_names: of those among them that have a name of their own.
        metrics: compact; None where they are read from the result file when they are asked for.
        error: pickled, as text, or as the arguments of :func:`.problems.recorded`.
        source: number, path relative to the experiment and row of another trial's checkpoint, when
            it went on from that and has none of its own since.
        is_recorded: it ended in an earlier run, and the row is the journal's.
    """

    trial_id: str
    name: str
    dirname: str
    tag: str
    status: str
    failures: int
    config: bytes
    evaluated: bytes
    row: bytes | None
    checkpoints: tuple[tuple[int, bytes], ...]
    metrics: dict[str, tuple[float, ...]] | None
    error: bytes | str | tuple[str, str, str, str | None] | None
    resources: list[dict[str, float]]
    start_time: float | None
    last_time: float
    source: tuple[int, str, bytes] | None = None
    is_recorded: bool = False
    dir_names: Mapping[int, str] = {}


def pack(ended: Ended) -> bytes:
    """Encode a trial compactly."""
    return zlib.compress(pickle.dumps(tuple(ended), protocol=5), 1)


class TrialRecord:
    """One trial of a run that has ended; values are decoded when they are asked for.

    Attributes are those of :class:`TrialFacts`.

    Args:
        packed: from :func:`pack`.
        run: what it has in common with others.
    """

    def __init__(self, packed: bytes, run: RunFacts) -> None:
        self._ended = Ended(*pickle.loads(zlib.decompress(packed)))
        self._run = run
        self.trial_id = self._ended.trial_id
        self.name = self._ended.name
        self.tag = self._ended.tag
        self.status = self._ended.status
        self.failures = self._ended.failures
        self.experiment_path = run.root
        self.directory = names.trial_directory(run.root, self._ended.dirname)
        self.start_time = self._ended.start_time
        self.last_time = self._ended.last_time

    @cached_property
    def resources(self) -> PlacementGroupFactory:
        """What it asked for."""
        return PlacementGroupFactory(self._ended.resources)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its configuration."""
        value: dict[str, Any] = self._decoded(self._ended.config)
        return value

    @cached_property
    def evaluated(self) -> dict[str, Any]:
        """The searched variables, flat."""
        value: dict[str, Any] = self._decoded(self._ended.evaluated)
        return value

    @cached_property
    def last_row(self) -> dict[str, Any]:
        """Its last row, with ``config``; the trial's id alone when there was none."""
        if self._ended.row is None:
            return {"trial_id": self.trial_id}
        row = {**self._decoded(self._ended.row), "config": self.config}
        if self._ended.is_recorded:  # what is added to a last row is not on record
            row["experiment_tag"] = self.tag
            if self.status == "TERMINATED":
                row[DONE] = True
        return row

    @cached_property
    def checkpoints(self) -> list[Kept]:
        """The kept checkpoints, the best last."""
        names_given = self._ended.dir_names
        return [
            (
                index,
                os.path.join(self.directory, names_given.get(index) or checkpoint_name(index)),
                {**self._decoded(row), "config": self.config},
            )
            for index, row in self._ended.checkpoints
        ]

    @property
    def latest(self) -> Kept | None:
        """The newest checkpoint; another trial's if it went on from that and has none since."""
        if self._ended.source is not None:
            index, path, row = self._ended.source
            values = {**self._decoded(row), "trial_id": self.trial_id, "config": self.config}
            return index, os.path.join(self._run.root, path), values
        return max(self.checkpoints, key=lambda kept: kept[0], default=None)

    @property
    def trainable_name(self) -> str:
        """Name of the function or class."""
        return self._run.trainable_name

    @property
    def latest_index(self) -> int | None:
        """The newest checkpoint's number."""
        return max((index for index, _ in self._ended.checkpoints), default=None)

    @property
    def num_to_keep(self) -> int | None:
        """How many checkpoints count as the best; None for all."""
        return self._run.num_to_keep

    @cached_property
    def error(self) -> Exception | str | None:
        """Why it failed for good, or None."""
        error = self._ended.error
        if isinstance(error, bytes):
            loaded: Exception = pickle.loads(error)
            return loaded
        if isinstance(error, tuple):
            return problems.recorded(*error, Objects(self._run.root).get)
        return error

    @cached_property
    def analysis(self) -> Analysis:
        """What its numeric metrics amount to."""
        if self._ended.metrics is not None:
            return unpacked(self._ended.metrics)
        metrics = RunningMetrics(logged(self.directory))
        analysis = metrics.analysis()
        if not analysis and self._ended.row is not None:  # no result file was wanted
            metrics.add(self.last_row)
            analysis = metrics.analysis()
        return analysis

    def _decoded(self, raw: bytes) -> Any:
        return codec.decode(msgspec.Raw(raw), Objects(self._run.root).get, codec.shown)

    def __repr__(self) -> str:
        return f"TrialRecord({self.name!r}, {self.status})"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        trials: one record per trial, in the order in which they were created.
        interrupted: the user ended it early.
        experiment_path: the experiment's directory.
    """

    trials: Sequence[TrialRecord]
    interrupted: bool
    experiment_path: str
