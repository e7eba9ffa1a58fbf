"""The keeper's book of captures: from a worker's word to the last byte out of staging."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import msgspec

from milepost.checkpoint.manifest import checkpoint_id, checkpoint_name
from milepost.keeper import intent as intents
from milepost.keeper.intent import CAPTURED_SUFFIX, Staged
from milepost.keeper.lease import Leases
from milepost.keeper.loop import Loop
from milepost.keeper.peer import Peer
from milepost.keeper.pipeline import Pipeline
from milepost.keeper.protocol import (
    Abandoned,
    Captured,
    CommitFailed,
    Committed,
    Hello,
    KeeperEvent,
    Lease,
    Leased,
    Queued,
    Reserve,
    Reserved,
    Settled,
    WorkerReply,
    decode_worker_request,
    encode,
)
from milepost.keeper.publish import Job, Outcome, Publisher, published
from milepost.keeper.room import Room, RoomKey

log = logging.getLogger("milepost.keeper")

_RESCUERS = 8
_CLEANERS = 2
_REMEMBERED = 4096


class _WorkerKey(NamedTuple):
    uuid: str
    trial_id: str
    attempt: int
    rank: int


class Captures:
    """Takes the requests of workers, has captures committed, and tells driver and workers.

    Its methods belong to the loop's thread.

    Args:
        loop: the keeper's loop.
        publisher: commits.
        leases: the leases on staged files.
        room: the bound on bytes in staging.
        tell: sends an event to the driver, and calls back when it is sent.
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
        settled: Callable[[], None],
        fenced: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._leases = leases
        self._room = room
        self._tell = tell
        self._settled = settled
        self._fenced = fenced
        self._pipeline = Pipeline(
            publisher.settle,
            done=lambda outcomes: loop.post(partial(self._on_outcomes, outcomes)),
            failed=lambda error: loop.post(partial(failed, error)),
        )
        self._rescuers = ThreadPoolExecutor(_RESCUERS, thread_name_prefix="rescue")
        self._cleaners = ThreadPoolExecutor(_CLEANERS, thread_name_prefix="clean")
        self._jobs: dict[str, Job] = {}
        self._early: dict[str, list[Job]] = {}
        self._open: set[str] = set()
        self._answers: OrderedDict[str, Settled] = OrderedDict()
        self._highest: dict[tuple[str, str], int] = {}
        self._peers: dict[_WorkerKey, Peer] = {}
        self._leased: dict[Peer, set[str]] = {}

    # --- the state of the book -----------------------------------------------------------------

    def known(self) -> set[str]:
        """Captures that are under way, or were settled a short while ago, by their base."""
        return self._jobs.keys() | self._answers.keys()

    def pending(self, uuid: str, trial_id: str | None = None, attempt: int | None = None) -> int:
        """How many captures of an experiment, a trial or an attempt are not settled yet."""
        return sum(
            job.uuid == uuid and trial_id in (None, job.trial_id) and attempt in (None, job.attempt)
            for job in self._jobs.values()
        )

    def highest_index(self, uuid: str, trial_id: str) -> int:
        """The highest index that was seen of a trial; -1 if none was."""
        return self._highest.get((uuid, trial_id), -1)

    def note_index(self, uuid: str, trial_id: str, index: int) -> None:
        """Take notice of an index."""
        key = (uuid, trial_id)
        self._highest[key] = max(index, self._highest.get(key, -1))

    def worker_pids(self) -> list[int]:
        """Processes of the workers that are connected."""
        return [peer.process_id() for peer in self._peers.values()]

    # --- experiments ---------------------------------------------------------------------------

    def open(self, uuid: str, recovered: Iterable[Staged]) -> None:
        """Begin to commit captures of an experiment: those found in staging, then the others."""
        self._open.add(uuid)
        for staged in recovered:
            self.add_found(staged)
        for job in self._early.pop(uuid, []):
            if job.base not in self._jobs:
                self._submit(job)
        self._pipeline.open(uuid)

    def close(self, uuid: str) -> None:
        """Forget an experiment; what is not committed stays in staging."""
        self._open.discard(uuid)
        self._early.pop(uuid, None)
        self._pipeline.close(uuid)
        for job in [job for job in self._jobs.values() if job.uuid == uuid]:
            self._leases.release(job.base)
            self._forget(job)

    def add_found(self, staged: Staged) -> None:
        """Commit a capture that was found in staging, unless it is under way."""
        if staged.base in self._jobs or staged.base in self._answers:
            return
        intent = staged.intent
        assert staged.captured is not None
        job = Job(
            base=staged.base,
            uuid=intent.experiment.uuid,
            trial_id=intent.trial_id,
            attempt=intent.attempt,
            index=intent.index,
            rank=intent.rank,
            nbytes=staged.captured.nbytes,
            recovered=True,
        )
        log.debug("found %s captured", job.base)
        self._submit(job)

    def save_leased(self) -> None:
        """A lease is being broken: save the bytes, in threads, and let the writer go on."""
        for rescue in self._leases.breaking():
            self._rescuers.submit(rescue)

    def stop(self) -> None:
        """End the threads after what they are doing now."""
        self._pipeline.stop()
        self._rescuers.shutdown()
        self._cleaners.shutdown()

    # --- workers -------------------------------------------------------------------------------

    def greet(self, peer: Peer, first: bytes) -> Hello:
        """Take a connection's first frame.

        Raises:
            DecodeError: it is no greeting.
        """
        hello = msgspec.json.decode(first, type=Hello)
        self._peers[_worker_key(hello)] = peer
        return hello

    def part(self, peer: Peer, hello: Hello) -> None:
        """A worker's connection has ended: give back the room and leases that it did not use."""
        key = _worker_key(hello)
        if self._peers.get(key) is peer:
            del self._peers[key]
            used = {self._room_key(job) for job in self._jobs.values()}
            for each in self._room.taken():
                if each[:4] == key and each not in used:
                    self._room.release(each)
        for base in self._leased.pop(peer, ()):
            if base not in self._jobs and not os.path.exists(base + CAPTURED_SUFFIX):
                self._leases.release(base)

    def request(self, peer: Peer, hello: Hello, frame: bytes) -> None:
        """Serve one request of a worker.

        Raises:
            DecodeError: it is none.
        """
        message = decode_worker_request(frame)
        key = _worker_key(hello)
        if isinstance(message, Reserve):
            self._reserve(
                peer, (*key, message.index), message.nbytes,
                lambda waited_s: Reserved(waited_s=waited_s),
            )  # fmt: skip
        elif isinstance(message, Lease):
            safe = self._leases.take(message.base, message.hold, message.check)
            self._leased.setdefault(peer, set()).add(message.base)
            self._reserve(
                peer, (*key, message.index), message.nbytes,
                lambda waited_s: Leased(safe=safe, waited_s=waited_s),
            )  # fmt: skip
        elif isinstance(message, Captured):
            self._on_captured(peer, hello, message)
        elif isinstance(message, Abandoned):
            self._room.release((*key, message.index))
            self._leases.release(message.base)
            self._leased.get(peer, set()).discard(message.base)

    def _reserve(
        self, peer: Peer, key: RoomKey, nbytes: int, answer: Callable[[float], WorkerReply]
    ) -> None:
        """Answer when there is room, and say so at once if there is none."""

        def granted(waited_s: float) -> None:
            peer.send(encode(answer(waited_s)))

        if not self._room.reserve(key, nbytes, granted):
            peer.send(encode(Queued(staged_bytes=self._room.nbytes)))

    def _on_captured(self, peer: Peer, hello: Hello, message: Captured) -> None:
        self.note_index(hello.experiment.uuid, hello.trial_id, message.index)
        self._leased.get(peer, set()).discard(message.base)
        answer = self._answers.get(message.base)
        if answer is not None:
            peer.send(encode(answer))
            return
        if message.base in self._jobs:
            return
        job = Job(
            base=message.base,
            uuid=hello.experiment.uuid,
            trial_id=hello.trial_id,
            attempt=hello.attempt,
            index=message.index,
            rank=hello.rank,
            nbytes=message.nbytes,
        )
        if not os.path.exists(message.base + CAPTURED_SUFFIX):
            self._answer_gone(peer, hello, message)
        elif job.uuid in self._open:
            self._submit(job)
        else:
            self._early.setdefault(job.uuid, []).append(job)

    def _answer_gone(self, peer: Peer, hello: Hello, message: Captured) -> None:
        """An earlier keeper settled it and could not say so: its manifest tells how."""
        trial = os.path.join(hello.experiment.path, hello.trial_dir)
        path = os.path.join(trial, checkpoint_name(message.index))
        found = published(path, checkpoint_id(hello.attempt_id, message.index))
        error = None if found else "it is neither in staging nor committed; its keeper was killed"
        peer.send(encode(Settled(index=message.index, path=path, error=error)))

    # --- commits -------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        self._jobs[job.base] = job
        self.note_index(job.uuid, job.trial_id, job.index)
        self._room.take(self._room_key(job), job.nbytes)
        self._pipeline.submit(job)

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            job = outcome.job
            if job.base not in self._jobs:
                continue  # its experiment was closed meanwhile
            if outcome.fenced:
                log.error("%s", outcome.error)
                self._fenced(job.uuid)
                continue
            answer = Settled(index=job.index, path=outcome.path, error=outcome.error)
            self._answers[job.base] = answer
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
            peer = self._peers.get(_WorkerKey(job.uuid, job.trial_id, job.attempt, job.rank))
            if peer is not None:
                peer.send(encode(answer))
            # Staging is cleared after the driver was told: a keeper that dies in between leaves
            # an intent, by which the next one tells it again.
            self._tell(self._event(outcome), partial(self._clear, outcome))
        self._settled()

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
            recovered=job.recovered,
            took_s=outcome.took_s,
            staged_bytes=self._room.nbytes,
            staged_count=len(self._jobs),
        )

    def _clear(self, outcome: Outcome) -> None:
        self._cleaners.submit(self._clear_in_thread, outcome)

    def _clear_in_thread(self, outcome: Outcome) -> None:
        base = outcome.job.base
        self._leases.release(base)
        try:
            if not outcome.keep:
                intents.remove(base)
        except OSError as error:
            log.warning("%s could not be removed from staging: %s", base, error)
        self._loop.post(partial(self._on_cleared, outcome.job))

    def _on_cleared(self, job: Job) -> None:
        if job.base in self._jobs:
            self._forget(job)
            self._settled()

    def _forget(self, job: Job) -> None:
        del self._jobs[job.base]
        self._room.release(self._room_key(job))

    def _room_key(self, job: Job) -> RoomKey:
        return (job.uuid, job.trial_id, job.attempt, job.rank, job.index)


def _worker_key(hello: Hello) -> _WorkerKey:
    return _WorkerKey(hello.experiment.uuid, hello.trial_id, hello.attempt, hello.rank)
