"""The workers that are connected to the keeper, and what they ask of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from milepost.checkpoint.manifest import checkpoint_id, checkpoint_name
from milepost.keeper.captures import Captures, CheckpointKey
from milepost.keeper.intent import CAPTURED_SUFFIX
from milepost.keeper.job import Part
from milepost.keeper.lease import Leases
from milepost.keeper.peer import Peer
from milepost.keeper.protocol import (
    Abandoned,
    Captured,
    Expected,
    Guard,
    Hello,
    Queued,
    Reserve,
    Reserved,
    Settled,
    decode_hello,
    decode_worker_request,
    encode,
)
from milepost.keeper.publish import published
from milepost.keeper.room import Room, RoomKey
from milepost.keeper.sessions import Leader
from milepost.storage import names

_RESCUERS = 8
#: Longer than a worker's end takes, whose fork server ends what it has left.
_LEFT_S = 10.0


class _WorkerKey(NamedTuple):
    uuid: str
    trial_id: str
    attempt: int
    rank: int


class Workers:
    """Serves the requests of workers; its methods belong to the loop's thread.

    Args:
        leases: the leases on staged files.
        room: the bound on bytes in staging.
        captures: returns the book of captures.
    """

    def __init__(self, leases: Leases, room: Room, captures: Callable[[], Captures]) -> None:
        self._leases = leases
        self._room = room
        self._captures = captures
        self._rescuers = ThreadPoolExecutor(_RESCUERS, thread_name_prefix="rescue")
        self._peers: dict[_WorkerKey, Peer] = {}
        self._processes: dict[Peer, Leader] = {}
        self._left: dict[Leader, float] = {}
        self._leased: dict[Peer, set[str]] = {}

    def processes(self) -> list[Leader]:
        """The workers that are connected, or were a moment ago.

        One may have ended together with the driver and the fork server, which would have ended
        what it has left behind.
        """
        since = time.monotonic() - _LEFT_S
        left = (each for each, at in self._left.items() if at > since)
        return [*self._processes.values(), *left]

    def greet(self, peer: Peer, first: bytes) -> Hello:
        """Take a connection's first frame.

        Raises:
            DecodeError: it is no greeting.
        """
        hello = decode_hello(first)
        self._peers[_key(hello)] = peer
        self._processes[peer] = Leader.of(peer.process_id())
        return hello

    def part(self, peer: Peer, hello: Hello) -> None:
        """A worker's connection has ended: give back the room and leases that it did not use."""
        key = _key(hello)
        now = time.monotonic()
        self._left = {each: at for each, at in self._left.items() if at > now - _LEFT_S}
        self._left[self._processes.pop(peer)] = now
        if self._peers.get(key) is peer:
            del self._peers[key]
            for each in self._room.reserved():
                if each[:4] == key:
                    self._room.release(each)
        for base in self._leased.pop(peer, ()):
            if not (self._captures().is_under_way(base) or os.path.exists(base + CAPTURED_SUFFIX)):
                self._leases.release(base)

    def request(self, peer: Peer, hello: Hello, frame: bytes) -> None:
        """Serve one request of a worker.

        Raises:
            DecodeError: it is none.
        """
        message = decode_worker_request(frame)
        key = _key(hello)
        if isinstance(message, Reserve):
            self._reserve(peer, (*key, message.index), message.nbytes)
        elif isinstance(message, Guard):
            self._guard(peer, message)
        elif isinstance(message, Captured):
            self._leased.get(peer, set()).discard(message.base)
            self._captured(peer, hello, message)
        elif isinstance(message, Expected):
            self._expected(hello, message)
        elif isinstance(message, Abandoned):
            self._room.release((*key, message.index))
            self._leases.release(message.base)
            self._leased.get(peer, set()).discard(message.base)

    def answer(self, key: CheckpointKey, rank: int, settled: Settled) -> None:
        """Tell the worker of a capture what became of it, if it is connected."""
        peer = self._peers.get(_WorkerKey(key.uuid, key.trial_id, key.attempt, rank))
        if peer is not None:
            peer.send(encode(settled))

    def save_leased(self) -> None:
        """A lease is being broken: save the bytes, in threads, and let the writer go on."""
        for rescue in self._leases.breaking():
            self._rescuers.submit(rescue)

    def stop(self) -> None:
        """End the threads after what they are doing now."""
        self._rescuers.shutdown()

    def _reserve(self, peer: Peer, key: RoomKey, nbytes: int) -> None:
        """Answer when there is room, and say so at once if there is none."""

        def granted(waited_s: float) -> None:
            free = self._room.free_bytes
            peer.send(encode(Reserved(waited_s=waited_s, pid=os.getpid(), free_bytes=free)))

        if not self._room.reserve(key, nbytes, granted):
            peer.send(encode(Queued(staged_bytes=self._room.nbytes)))

    def _guard(self, peer: Peer, message: Guard) -> None:
        """Take over leases; a writer may wait for one of them already."""
        descriptors = peer.wire.descriptors
        if len(descriptors) < len(message.paths):
            raise msgspec.DecodeError(f"{len(message.paths)} descriptors should have come")
        guards = [(path, descriptors.popleft()) for path in message.paths]
        self._leased.setdefault(peer, set()).add(message.base)
        self._leases.adopt(message.base, guards)
        self.save_leased()

    def _captured(self, peer: Peer, hello: Hello, message: Captured) -> None:
        captures = self._captures()
        uuid = hello.experiment.uuid
        captures.note_index(uuid, hello.trial_id, message.index)
        answer = captures.earlier_answer(message.base)
        if answer is not None:
            peer.send(encode(answer))
        elif captures.is_under_way(message.base):
            return
        elif os.path.exists(message.base + CAPTURED_SUFFIX):
            key = CheckpointKey(uuid, hello.trial_id, hello.attempt, message.index)
            part = Part(message.base, hello.rank, message.nbytes)
            captures.add(key, message.ranks, part)
        else:
            peer.send(encode(_answer_gone(hello, message)))

    def _expected(self, hello: Hello, message: Expected) -> None:
        key = CheckpointKey(hello.experiment.uuid, hello.trial_id, hello.attempt, message.index)
        path, is_there = _published(hello, message)
        found = Settled(index=message.index, path=path) if is_there else None
        self._captures().expect(key, hello.rank, found)


def _answer_gone(hello: Hello, message: Captured) -> Settled:
    """An earlier keeper settled it and could not say so: its manifest tells how."""
    path, is_there = _published(hello, message)
    error = None if is_there else "it is neither in staging nor committed; its keeper was killed"
    return Settled(index=message.index, path=path, error=error)


def _published(hello: Hello, message: Captured | Expected) -> tuple[str, bool]:
    """A checkpoint's path, and whether this attempt has published it there."""
    trial = names.trial_directory(hello.experiment.path, hello.trial_dir)
    path = os.path.join(trial, checkpoint_name(message.index, message.dir_name))
    return path, published(path, checkpoint_id(hello.attempt_id, message.index)) is not None


def _key(hello: Hello) -> _WorkerKey:
    return _WorkerKey(hello.experiment.uuid, hello.trial_id, hello.attempt, hello.rank)
