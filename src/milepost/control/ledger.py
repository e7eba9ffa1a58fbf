"""All trials of a run on the driver's side: live ones with their values, ended ones packed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import msgspec

from milepost.api.resources import PlacementGroupFactory, resources_of
from milepost.checkpoint.manifest import own_name
from milepost.control.checkpoints import Checkpoint
from milepost.control.metrics import Analysis, RunningMetrics
from milepost.control.outcome import Ended, Kept, RunFacts, TrialRecord, pack
from milepost.control.repetition import Repetition
from milepost.control.rounds import Rounds
from milepost.control.state import PENDING, Status, TrialState
from milepost.errors import text_of
from milepost.storage import codec, names
from milepost.worker.protocol import dump_error

if TYPE_CHECKING:
    from milepost.control.earlier_rows import EarlierRows
    from milepost.control.facade import Requests, Trial
    from milepost.journal.objects import Objects


class LiveTrial:
    """A trial that has not ended, with the values of users that the machine does not look into.

    Has the attributes of :class:`~milepost.control.outcome.TrialFacts`.

    Attributes:
        raw_config, raw_evaluated: encoded, as in the journal.
        resources: what it asks for.
        last_row: see :class:`~milepost.control.outcome.TrialFacts`.
        last_time: when it last reported, seconds since the epoch; 0 before.
        start_time: when it first ran, or None.
        metrics: what its numbers amount to.
        error: its last failure.
        where: ``pid``, ``hostname`` and ``node_ip`` of its worker.
        state: the machine's side of it; also after the machine has let go of it.
        recorded_status: its status while it is restored and the machine does not know it.
        repetition: which of its next results are known already.
        earlier: what it reported before a restore; None if it reported nothing.
    """

    def __init__(
        self,
        *,
        trial_id: str,
        config: dict[str, Any],
        evaluated: dict[str, Any],
        tag: str,
        resources: PlacementGroupFactory,
        ledger: Ledger,
    ) -> None:
        self.trial_id = trial_id
        self.name = trial_id
        self.dirname = ""
        self.config = config
        self.evaluated = evaluated
        self.tag = tag
        self.resources = resources
        self.raw_config = self.raw_evaluated = msgspec.Raw(b"{}")
        self.last_row: dict[str, Any] = {"trial_id": trial_id}
        self.last_time = 0.0
        self.start_time: float | None = None
        self.metrics = RunningMetrics()
        self.error: Exception | str | None = None
        self.where: dict[str, Any] = {}
        self.state: TrialState | None = None
        self.recorded_status: Status = PENDING
        self.repetition = Repetition()
        self.earlier: EarlierRows | None = None
        self.rounds = Rounds(1)
        self._ledger = ledger

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, absolute."""
        return self._ledger.run.root

    @property
    def directory(self) -> str:
        """Absolute."""
        return names.trial_directory(self._ledger.run.root, self.dirname)

    @property
    def status(self) -> str:
        """As the machine has it; PENDING before it is added."""
        return self.recorded_status if self.state is None else self.state.status

    @property
    def failures(self) -> int:
        """How many attempts failed."""
        return 0 if self.state is None else self.state.failures

    @property
    def kept(self) -> list[Checkpoint]:
        """The kept checkpoints as the machine has them, oldest first."""
        return [] if self.state is None else list(self.state.checkpoints.values())

    @property
    def checkpoints(self) -> list[Kept]:
        """The kept checkpoints, the best last."""
        by_index = {c.index: c for c in self.kept}
        ranked = self._ledger.run.ranked(self.kept)
        return [self._ledger.decoded(by_index[index], self) for index in ranked]

    @property
    def latest(self) -> Kept | None:
        """The newest checkpoint; another trial's if it went on from that and has none since."""
        if self.state is None:
            return None
        if (source := self.state.source) is not None:
            index, _, row = self._ledger.decoded(source, self)
            return index, source.path, {**row, "trial_id": self.trial_id}
        latest = self.state.latest
        return None if latest is None else self._ledger.decoded(latest, self)

    @property
    def trainable_name(self) -> str:
        """Name of the function or class."""
        return self._ledger.run.trainable_name

    @property
    def recoverable(self) -> bool:
        """Whether its last failure is one of those after which a trial is tried again."""
        limit = self._ledger.run.max_failures
        return limit < 0 or self.failures <= limit

    @property
    def analysis(self) -> Analysis:
        """What its numeric metrics amount to."""
        return self.metrics.analysis()

    @property
    def num_to_keep(self) -> int | None:
        """How many checkpoints count as the best; None for all."""
        return self._ledger.run.num_to_keep


class Ledger(Sequence["Trial"]):
    """All trials in the order of their creation, as callbacks and schedulers see them.

    Indexing makes a facade; an ended trial is decoded only then.

    Args:
        run: what all trials have in common.
        objects: where values lie that JSON cannot hold.
    """

    def __init__(self, run: RunFacts, objects: Objects) -> None:
        self.run = run
        self.objects = objects
        self.live: dict[str, LiveTrial] = {}
        self._order: list[str] = []
        self._packed: dict[str, bytes] = {}
        self._facades: weakref.WeakValueDictionary[str, Trial] = weakref.WeakValueDictionary()
        self._held: dict[str, Trial] = {}

    # --- growing ----------------------------------------------------------------------------

    def add(self, trial: LiveTrial, facade: Trial) -> None:
        """Take in a new trial."""
        self._order.append(trial.trial_id)
        self.live[trial.trial_id] = trial
        self._facades[trial.trial_id] = facade
        # Schedulers set attributes of their own on it, so it must not be made anew.
        self._held[trial.trial_id] = facade

    def reopen(self, trial: LiveTrial, requests: Requests) -> None:
        """Take back a trial that was packed; :meth:`replace` packs it again."""
        del self._packed[trial.trial_id]
        facade = self._facades.get(trial.trial_id)
        if facade is None:
            from milepost.control.facade import Trial

            facade = self._facades[trial.trial_id] = Trial(trial)
        facade._began(trial, requests)
        self.live[trial.trial_id] = trial
        self._held[trial.trial_id] = facade

    def serve(self, requests: Requests) -> None:
        """Let somebody else take what is asked for live trials."""
        for trial_id, facade in self._held.items():
            facade._began(self.live[trial_id], requests)

    def add_ended(self, trial_id: str, packed: bytes, *, counts: bool = True) -> None:
        """Take in a trial that ended in an earlier run.

        Args:
            trial_id: the trial.
            packed: from :func:`~milepost.control.outcome.pack`.
            counts: whether it is one of the run's trials; False for one that was restarted as
                another, which can be found by its id only.
        """
        self._packed[trial_id] = packed
        if counts:
            self._order.append(trial_id)

    def replace(self, trial_id: str, packed: bytes) -> None:
        """Keep a trial as it is on record, whatever it went through here."""
        del self.live[trial_id]
        self._let_go(trial_id, packed)

    def end(self, trial_id: str) -> None:
        """Pack a trial that has ended; facades that somebody holds go on working."""
        trial = self.live.pop(trial_id)
        packed = pack(
            Ended(
                trial_id=trial.trial_id,
                name=trial.name,
                dirname=trial.dirname,
                tag=trial.tag,
                status=trial.status,
                failures=trial.failures,
                config=bytes(trial.raw_config),
                evaluated=bytes(trial.raw_evaluated),
                row=self._encoded_row(trial.last_row),
                checkpoints=self._ranked(trial.kept),
                dir_names={
                    each.index: name
                    for each in trial.kept
                    if (name := own_name(each.index, each.path)) is not msgspec.UNSET
                },
                metrics=trial.metrics.packed(),
                error=_packed_error(trial.error) if trial.status != "TERMINATED" else None,
                resources=resources_of(trial.resources),
                start_time=trial.start_time,
                last_time=trial.last_time,
                source=None if trial.state is None else self.reference(trial.state.source),
            )
        )
        self._let_go(trial_id, packed)

    def _let_go(self, trial_id: str, packed: bytes) -> None:
        self._packed[trial_id] = packed
        facade = self._held.pop(trial_id, None)
        if facade is not None:
            facade._ended(lambda: self.record(trial_id))

    def reference(self, source: Checkpoint | None) -> tuple[int, str, bytes] | None:
        """Another trial's checkpoint, as a packed trial refers to it."""
        if source is None:
            return None
        return source.index, os.path.relpath(source.path, self.run.root), bytes(source.row)

    def _encoded_row(self, row: dict[str, Any]) -> bytes | None:
        if len(row) <= 1:
            return None
        return codec.encode({k: v for k, v in row.items() if k != "config"}, self.objects.put)

    def _ranked(self, kept: list[Checkpoint]) -> tuple[tuple[int, bytes], ...]:
        by_index = {c.index: bytes(c.row) for c in kept}
        return tuple((index, by_index[index]) for index in self.run.ranked(kept))

    # --- looking ----------------------------------------------------------------------------

    def record(self, trial_id: str) -> TrialRecord:
        """The record of an ended trial."""
        return TrialRecord(self._packed[trial_id], self.run)

    @property
    def ids(self) -> Sequence[str]:
        """Ids of all trials, in the order of their creation."""
        return self._order

    def find(self, trial_id: str) -> Trial | None:
        """A trial by its id, or None."""
        known = trial_id in self.live or trial_id in self._packed
        return self.facade(trial_id) if known else None

    def encoded(self, value: Any) -> msgspec.Raw:
        """A value as the journal keeps it."""
        return msgspec.Raw(codec.encode(value, self.objects.put))

    def facade(self, trial_id: str) -> Trial:
        """A trial as callbacks and schedulers see it; the same object as long as it is held."""
        known = self._facades.get(trial_id)
        if known is None:
            from milepost.control.facade import Trial

            known = self._facades[trial_id] = Trial(self.record(trial_id))
        return known

    def decoded(self, checkpoint: Checkpoint, trial: LiveTrial) -> Kept:
        """A checkpoint with its row."""
        row = codec.decode(checkpoint.row, self.objects.get, codec.shown)
        return checkpoint.index, checkpoint.path, {**row, "config": trial.config}

    def records(self) -> Records:
        """All trials, once all have ended."""
        return Records([self._packed[trial_id] for trial_id in self._order], self)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self.facade(trial_id) for trial_id in self._order[index]]
        return self.facade(self._order[index])

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Trial]:
        return map(self.facade, list(self._order))

    def __contains__(self, trial: object) -> bool:
        trial_id = getattr(trial, "trial_id", None)
        return trial_id in self.live or trial_id in self._packed


class Records(Sequence[TrialRecord]):
    """The packed trials of a run; indexing decodes one."""

    def __init__(self, packed: list[bytes], ledger: Ledger) -> None:
        self._packed = packed
        self._run = ledger.run

    @overload
    def __getitem__(self, index: int) -> TrialRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> TrialRecord | Records:
        if isinstance(index, slice):
            part = Records.__new__(Records)
            part._packed, part._run = self._packed[index], self._run
            return part
        return TrialRecord(self._packed[index], self._run)

    def __len__(self) -> int:
        return len(self._packed)


def _packed_error(error: Exception | str | None) -> bytes | str | None:
    if error is None or isinstance(error, str):
        return error
    try:
        return dump_error(error)
    except Exception:  # noqa: BLE001 - pickling runs code of users; the text stays
        return text_of(error)
