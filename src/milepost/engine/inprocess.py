"""An engine whose workers run in this very process, where debuggers and prompts reach them."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
from collections import deque

from milepost.engine.local import LocalEngine
from milepost.engine.protocol import EngineEvent, Exited, Payload, WorkerHandle, WorkerSpec
from milepost.errors import WorkerStartError
from milepost.keeper.wire import Wire
from milepost.worker import main
from milepost.worker.channel import Channel


class InProcessWorker:
    """A worker in this process; implements :class:`milepost.engine.protocol.WorkerHandle`."""

    def __init__(self, worker_id: str, end: socket.socket) -> None:
        self._worker_id = worker_id
        self._end = end
        self._channel = Channel(Wire(end))

    @property
    def worker_id(self) -> str:
        """The id of its spec."""
        return self._worker_id

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    @property
    def channel(self) -> Channel:
        """Connected already."""
        return self._channel

    def kill(self) -> None:
        """Have it end at its next report: this process cannot be killed for it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def signal(self, signum: int) -> None:
        """Do nothing: signals are for the driver, which this process is as well."""


class InProcessEngine:
    """Runs workers, one after the other, in the thread that calls :meth:`serve`.

    Those that stand ``apart`` have processes of their own, as on any machine. Implements
    :class:`milepost.engine.protocol.Engine`, whose methods another thread calls.

    Args:
        trainable: what workers run; it is not pickled.
    """

    def __init__(self, trainable: object) -> None:
        self._trainable = trainable
        self._orders: queue.SimpleQueue[tuple[WorkerSpec, socket.socket] | None]
        self._orders = queue.SimpleQueue()
        self._events: deque[EngineEvent] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._payload: Payload | None = None
        self._apart: LocalEngine | None = None
        self._workers: list[InProcessWorker] = []
        self._closed = False

    def serve(self) -> None:
        """Run workers until :meth:`close`."""
        while (order := self._orders.get()) is not None:
            spec, end = order
            directory, environment = os.getcwd(), dict(os.environ)
            try:
                main.run(Channel(Wire(end)), lambda: self._trainable)
            finally:
                end.close()
                os.chdir(directory)
                os.environ.clear()
                os.environ.update(environment)
                self._events.append(Exited(spec.worker_id, 0, None))
                if not self._closed:
                    os.eventfd_write(self._wake, 1)

    def prepare(self, cpus: float = 1.0) -> None:
        """Nothing has to be prepared."""

    def load(self, payload: Payload) -> None:
        """The trainable is here already; it is for those that stand apart."""
        self._payload = payload

    def start(self, spec: WorkerSpec) -> WorkerHandle:
        """Have :meth:`serve` run a worker as soon as it has ended the one before.

        Raises:
            WorkerStartError: no more descriptors can be opened.
        """
        if spec.apart:
            return self._engine_apart().start(spec)
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerStartError(f"cannot start worker {spec.name!r}: {error}") from error
        worker = InProcessWorker(spec.worker_id, ours)
        self._workers.append(worker)
        self._orders.put((spec, theirs))
        return worker

    def fileno(self) -> int:
        """Readable when a worker has ended, or one that stands apart has done anything."""
        return self._epoll.fileno()

    def events(self) -> list[EngineEvent]:
        """What has happened since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        found = [] if self._apart is None else self._apart.events()
        while self._events:
            found.append(self._events.popleft())
        return found

    def close(self) -> None:
        """Let :meth:`serve` return, when what runs in it has reported or ended."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers:
            worker.kill()
        self._orders.put(None)
        if self._apart is not None:
            self._apart.close()
        self._epoll.close()
        os.close(self._wake)

    def _engine_apart(self) -> LocalEngine:
        if self._apart is None:
            assert self._payload is not None
            self._apart = LocalEngine()
            self._apart.load(self._payload)
            self._epoll.register(self._apart.fileno(), select.EPOLLIN)
        return self._apart
