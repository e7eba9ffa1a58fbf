"""The keeper's book of captures: from a worker's word to the last byte out of staging."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from milepost.keeper import intent as intents
from milepost.keeper import returning
from milepost.keeper.intent import Staged
from milepost.keeper.job import Job, Outcome, Part
from milepost.keeper.lease import Leases
from milepost.keeper.loop import Loop
from milepost.keeper.pipeline import Pipeline
from milepost.keeper.protocol import CommitFailed, Committed, KeeperEvent, Settled
from milepost.keeper.publish import Publisher
from milepost.keeper.room import Room, RoomKey

log = logging.getLogger("milepost.keeper")

_CLEANERS = 2
_REMEMBERED = 4096


class CheckpointKey(NamedTuple):
    """Which checkpoint the captures of a trial's workers are parts of."""

    uuid: str
    trial_id: str
    attempt: int
    number: int


class _Capture(NamedTuple):
    """A capture that is not settled yet."""

    key: CheckpointKey
    rank: int

    @property
    def room_key(self) -> RoomKey:
        key = self.key
        return (key.uuid, key.trial_id, key.attempt, self.rank, key.number)


@dataclass(slots=True)
class _Gathering:
    """A checkpoint of several workers, some of whose parts are still to come."""

    ranks: tuple[int, ...]
    parts: dict[int, Part] = field(default_factory=dict)
    recovered: bool = False


class Captures:
    """Has captures committed, and tells driver and workers of it.

    Its methods belong to the loop's thread.

    Args:
        loop: the keeper's loop.
        publisher: commits.
        leases: the leases on staged files.
        room: the bound on bytes in staging.
        tell: sends an event to the driver, and calls back when it is sent.
        answer: tells the worker of a capture what became of it, if it is connected.
        settled: is called whenever a capture has left the book.
        fenced: is called when another driver has taken an experiment over.
        failed: is called when a thread has failed that must not.
    """

    def __init__(
        self,
        loop: Loop,
        publisher: Publisher,
        leases: Leases,
        room: Room,
        *,
        tell: Callable[[KeeperEvent, Callable[[], None] | None], None],
        answer: Callable[[CheckpointKey, int, Settled], None],
        settled: Callable[[], None],
        fenced: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._leases = leases
        self._room = room
        self._tell = tell
        self._answer = answer
        self._settled = settled
        self._fenced = fenced
        self._pipeline = Pipeline(
            publisher.settle,
            done=lambda outcomes: loop.post(partial(self._on_outcomes, outcomes)),
            failed=lambda error: loop.post(partial(failed, error)),
        )
        self._cleaners = ThreadPoolExecutor(_CLEANERS, thread_name_prefix="clean")
        self._under_way: dict[str, _Capture] = {}  # by base
        self._gathering: dict[CheckpointKey, _Gathering] = {}
        self._early: dict[str, list[tuple[CheckpointKey, tuple[int, ...], Part]]] = {}
        self._open: set[str] = set()
        self._answers: OrderedDict[str, Settled] = OrderedDict()  # by base
        self._failures: OrderedDict[CheckpointKey, Settled] = OrderedDict()
        self._pending: set[CheckpointKey] = set()  # of which some part has come
        self._expected: dict[CheckpointKey, set[int]] = {}
        self._highest: dict[tuple[str, str], int] = {}

    # --- the state of the book -----------------------------------------------------------------

    def known(self) -> set[str]:
        """Captures that are under way, or were settled a short while ago, by their base."""
        return self._under_way.keys() | self._answers.keys()

    def is_under_way(self, base: str) -> bool:
        """Whether a capture is to be committed and is not settled yet."""
        return base in self._under_way

    def earlier_answer(self, base: str) -> Settled | None:
        """What became of a capture that was settled a short while ago."""
        return self._answers.get(base)

    def pending(self, uuid: str, trial_id: str | None = None, attempt: int | None = None) -> int:
        """How many captures of an experiment, a trial or an attempt are not settled yet."""
        return sum(
            _matches(capture.key, uuid, trial_id, attempt) for capture in self._under_way.values()
        ) + sum(_matches(key, uuid, trial_id, attempt) for key, _, _ in self._early.get(uuid, ()))

    def highest_index(self, uuid: str, trial_id: str) -> int:
        """The highest index that was seen of a trial; -1 if none was."""
        return self._highest.get((uuid, trial_id), -1)

    def note_index(self, uuid: str, trial_id: str, index: int) -> None:
        """Take notice of an index."""
        key = (uuid, trial_id)
        self._highest[key] = max(index, self._highest.get(key, -1))

    # --- experiments ---------------------------------------------------------------------------

    def open(self, uuid: str) -> None:
        """Take in captures of an experiment; those that came early follow in :meth:`begin`."""
        self._open.add(uuid)

    def begin(self, uuid: str) -> None:
        """Begin to commit an experiment's captures, those that were added since :meth:`open` first.

        They were found in staging, so they are older than what its workers have announced since.
        """
        for key, ranks, part in self._early.pop(uuid, []):
            self.add(key, ranks, part)
        self._pipeline.open(uuid)

    def close(self, uuid: str, then: Callable[[], None]) -> None:
        """Forget an experiment; what is not committed stays in staging.

        Args:
            uuid: the experiment.
            then: is called, in the loop, once no thread touches anything of it any more.
        """
        self._open.discard(uuid)
        self._early.pop(uuid, None)
        self._pipeline.close(uuid, partial(self._loop.post, then))
        for book in (self._gathering, self._expected):
            for key in [key for key in book if key.uuid == uuid]:
                del book[key]
        self._pending = {key for key in self._pending if key.uuid != uuid}
        for base, capture in list(self._under_way.items()):
            if capture.key.uuid == uuid:
                self._leases.release(base)
                self._forget(base)

    def stop(self) -> None:
        """End the threads after what they are doing now."""
        self._pipeline.stop()
        self._cleaners.shutdown()

    # --- captures ------------------------------------------------------------------------------

    def add(
        self,
        key: CheckpointKey,
        ranks: tuple[int, ...],
        part: Part,
        *,
        recovered: bool = False,
    ) -> None:
        """Commit a capture, when the others that belong to the checkpoint are there too.

        Args:
            key: the checkpoint.
            ranks: of the workers whose captures make it up.
            part: the capture; nothing happens if it is under way.
            recovered: whether it was found in staging.
        """
        if part.base in self._under_way or part.base in self._answers:
            return
        if key.uuid not in self._open:
            self._early.setdefault(key.uuid, []).append((key, ranks, part))
            return
        capture = self._under_way[part.base] = _Capture(key, part.rank)
        self.note_index(key.uuid, key.trial_id, key.number)
        self._room.take(capture.room_key, part.nbytes)
        self._pending.add(key)
        gathering = self._gathering.setdefault(key, _Gathering(ranks))
        gathering.parts[part.rank] = part
        gathering.recovered |= recovered
        if gathering.parts.keys() >= set(ranks):
            self._pipeline.submit(_job(key, self._gathering.pop(key)))

    def expect(self, key: CheckpointKey, rank: int, published: Settled | None) -> None:
        """Tell a worker that has no part of a checkpoint what becomes of it.

        Args:
            key: the checkpoint.
            rank: of the worker.
            published: the answer if nothing of it is under way, because it is there already.
        """
        answer = self._failures.get(key)
        if key not in self._pending:
            answer = answer or published
        if answer is not None:
            self._answer(key, rank, answer)
        else:
            self._expected.setdefault(key, set()).add(rank)

    def add_found(self, staged: Staged) -> None:
        """Commit a capture that was found in staging, unless it is under way."""
        assert staged.captured is not None
        intent = staged.intent
        key = CheckpointKey(intent.experiment.uuid, intent.trial_id, intent.attempt, intent.index)
        part = Part(staged.base, intent.rank, staged.captured.nbytes)
        self.add(key, intent.ranks, part, recovered=True)

    def give_up_incomplete(
        self, uuid: str, trial_id: str | None = None, attempt: int | None = None
    ) -> None:
        """Wait no more for the parts of workers that have ended.

        A checkpoint that lacks a part fails, unless it was committed by an earlier keeper.
        """
        for key in [key for key in self._gathering if _matches(key, uuid, trial_id, attempt)]:
            self._pipeline.submit(_job(key, self._gathering.pop(key)))

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            job = outcome.job
            if job.parts[0].base not in self._under_way:
                continue  # its experiment was closed meanwhile
            if outcome.fenced:
                log.error("%s", outcome.error)
                self._fenced(job.uuid)
                continue
            settled = Settled(
                index=job.index,
                path=outcome.path,
                error=outcome.error,
                free_bytes=self._room.free_bytes,
            )
            key = self._under_way[job.parts[0].base].key
            for part in job.parts:
                self._remember(part.base, settled)
                self._answer(key, part.rank, settled)
            self._tell_others(key, settled)
            # Staging is cleared after the driver was told: a keeper that dies in between leaves
            # the record, by which the next one tells it again.
            self._tell(self._event(outcome), partial(self._clear, outcome))
        self._settled()

    def _tell_others(self, key: CheckpointKey, settled: Settled) -> None:
        """Answer those that expect the checkpoint, or will; a commit shows in the directory."""
        self._pending.discard(key)
        if settled.error is not None:
            self._failures[key] = settled
            if len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)
        for rank in self._expected.pop(key, ()):
            self._answer(key, rank, settled)

    def _remember(self, base: str, settled: Settled) -> None:
        self._answers[base] = settled
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)

    def _event(self, outcome: Outcome) -> KeeperEvent:
        job = outcome.job
        if outcome.manifest is None:
            return CommitFailed(
                uuid=job.uuid,
                trial_id=job.trial_id,
                attempt=job.attempt,
                index=job.index,
                error=outcome.error or "",
                disk_full=outcome.disk_full,
            )
        return Committed(
            uuid=job.uuid,
            trial_id=job.trial_id,
            attempt=job.attempt,
            index=job.index,
            iteration=outcome.manifest.iteration,
            path=outcome.path,
            nbytes=outcome.manifest.nbytes,
            files=len(outcome.manifest.files),
            digest=outcome.digest,
            row=msgspec.Raw(outcome.manifest.metrics),
            validation=outcome.manifest.task,
            recovered=job.recovered,
            took_s=outcome.took_s,
            staged_bytes=self._room.nbytes,
            staged_count=len(self._under_way),
        )

    def _clear(self, outcome: Outcome) -> None:
        self._cleaners.submit(self._clear_in_thread, outcome)

    def _clear_in_thread(self, outcome: Outcome) -> None:
        for part in outcome.job.parts:
            self._leases.release(part.base)
            try:
                if outcome.manifest is not None:
                    intents.remove(part.base)
                elif not outcome.keep:
                    returning.discard(part.base, outcome.home)
            except OSError as error:
                log.warning("%s could not be removed from staging: %s", part.base, error)
        self._loop.post(partial(self._on_cleared, outcome.job))

    def _on_cleared(self, job: Job) -> None:
        for part in job.parts:
            if part.base in self._under_way:
                self._forget(part.base)
        self._settled()

    def _forget(self, base: str) -> None:
        self._room.release(self._under_way.pop(base).room_key)


def _matches(key: CheckpointKey, uuid: str, trial_id: str | None, attempt: int | None) -> bool:
    return key.uuid == uuid and trial_id in (None, key.trial_id) and attempt in (None, key.attempt)


def _job(key: CheckpointKey, gathering: _Gathering) -> Job:
    return Job(
        uuid=key.uuid,
        trial_id=key.trial_id,
        attempt=key.attempt,
        index=key.number,
        parts=tuple(gathering.parts[rank] for rank in sorted(gathering.parts)),
        missing=tuple(sorted(set(gathering.ranks) - gathering.parts.keys())),
        recovered=gathering.recovered,
    )
