"""The engine for one machine: workers are forks of a fork server.

Use it from one thread. The controller calls :meth:`LocalEngine.prepare` as early as it can (the
server imports in parallel with the driver), :meth:`LocalEngine.load` once per fit and
:meth:`LocalEngine.start` per worker. What a worker sent before it ended is still in its channel
when its :class:`~milepost.engine.protocol.Exited` is returned: read the channel before acting on
that event.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
from typing import Literal

from milepost.engine import messages, preload, server_pool, tree
from milepost.engine.messages import Ended, Fork, Forked, Kill, Load, NotForked, Ready, Signal
from milepost.engine.payload import write as write_payload
from milepost.engine.protocol import (
    EngineEvent,
    Exited,
    Output,
    Payload,
    StartFailed,
    WorkerSpec,
)
from milepost.engine.server_process import (
    OMP_VARIABLE,
    ServerProcess,
    Surroundings,
    absolute_sys_path,
    omp_threads,
)
from milepost.errors import ChannelClosedError, WorkerStartError
from milepost.keeper.wire import Wire
from milepost.worker.channel import Channel
from milepost.worker.protocol import WorkerOutput

logger = logging.getLogger("milepost.engine")

_CHUNK = 1 << 16
_CLOSE_WAIT_S = 10.0
_told: set[str] = set()
Stream = Literal["stdout", "stderr"]


class LocalWorker:
    """A worker of this machine; made by :meth:`LocalEngine.start`."""

    def __init__(
        self, spec: WorkerSpec, channel: Channel, server: ServerProcess, fds: tuple[int, ...]
    ) -> None:
        self.spec = spec
        self._pid: int | None = None
        self._channel = channel
        self._server = server
        self.streams: dict[int, Stream] = {}
        self.unsent = fds  # the worker's ends, kept until it exists

    @property
    def worker_id(self) -> str:
        """The id of its spec."""
        return self.spec.worker_id

    @property
    def pid(self) -> int | None:
        """Its process id, which is its session's too; None until it is known."""
        return self._pid

    @property
    def channel(self) -> Channel:
        """Connected already; messages may be sent at once."""
        return self._channel

    def kill(self) -> None:
        """Kill the worker and every process that it started; safe when it has ended."""
        with contextlib.suppress(ChannelClosedError):  # the server's end kills it too
            self._server.send(Kill(self.worker_id))

    def signal(self, signum: int) -> None:
        """Send a signal to the worker process alone; safe when it has ended."""
        with contextlib.suppress(ChannelClosedError):
            self._server.send(Signal(self.worker_id, signum))

    def move_to(self, server: ServerProcess) -> None:
        """Start on another server."""
        self._server = server

    def exists(self, pid: int) -> None:
        """Take note that the process has been made; it has its descriptors."""
        self._pid = pid
        self.close_unsent()

    def close_unsent(self) -> None:
        """Close the worker's ends of its channel and pipes in this process."""
        messages.close_all(self.unsent)
        self.unsent = ()


class _Server:
    """A fork server in use, with its workers."""

    def __init__(self, process: ServerProcess, threads: int) -> None:
        self.process = process
        self.threads = threads
        self.ready = False
        self.loaded = False
        self.workers: dict[str, LocalWorker] = {}


class LocalEngine:
    """Implements :class:`milepost.engine.protocol.Engine` on this machine."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._servers: dict[int, _Server] = {}  # by the descriptor of the socket
        self._streams: dict[int, LocalWorker] = {}
        self._pending: list[EngineEvent] = []
        self._payload: tuple[int, Load] | None = None
        self._closed = False
        self._owner = os.getpid()

    def prepare(self, cpus: float = 1.0) -> None:
        """Start what workers with that many CPUs need ahead of time; returns at once.

        Raises:
            WorkerStartError: no process can be started.
        """
        self._server_for(cpus)

    def load(self, payload: Payload) -> None:
        """Hand over the trainable that the next workers run.

        It is written to memory once, whatever the number of workers.
        """
        fd, layout = write_payload(payload)
        if self._payload is not None:
            os.close(self._payload[0])
        self._payload = (
            fd,
            Load(layout, absolute_sys_path(), os.getcwd(), tuple(os.environ.items())),
        )
        for server in self._servers.values():
            server.loaded = False

    def start(self, spec: WorkerSpec) -> LocalWorker:
        """Start a worker and return at once.

        A failure that shows later arrives as :class:`StartFailed`.

        Raises:
            WorkerStartError: no process can be started.
            RuntimeError: nothing was loaded, or the engine is closed.
        """
        if self._payload is None:
            raise RuntimeError("LocalEngine.load() comes before start()")
        server = self._server_for(spec.cpus)
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        error_read, error_write = os.pipe()
        worker = LocalWorker(
            spec,
            Channel(Wire(ours)),
            server.process,
            (theirs.detach(), out_write, error_write),
        )
        streams: tuple[tuple[int, Stream], ...] = ((out_read, "stdout"), (error_read, "stderr"))
        for fd, stream in streams:
            os.set_blocking(fd, False)
            worker.streams[fd] = stream
            self._streams[fd] = worker
            self._epoll.register(fd, select.EPOLLIN)
        server.workers[spec.worker_id] = worker
        self._fork(server, worker)
        return worker

    def fileno(self) -> int:
        """Readable when :meth:`events` has something."""
        return self._epoll.fileno()

    def events(self) -> list[EngineEvent]:
        """What happened since the last call; never waits.

        All output that a worker wrote comes before its :class:`Exited`.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for fd, _ in self._epoll.poll(0):
            if fd in self._streams:
                self._read(fd)
            elif fd in self._servers:
                self._listen(self._servers[fd])
        events, self._pending = self._pending, []
        return events

    def close(self) -> None:
        """Kill every worker and release everything; safe to call twice.

        A fork server that took long to start is kept for the next fit of this process, see
        :mod:`milepost.engine.server_pool`.
        """
        # A fork of the driver shares servers and epoll with it; they are not its to close.
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for server in list(self._servers.values()):
            self._epoll.unregister(server.process.fileno())
            if server.ready and server_pool.worth_keeping(server.process) and self._empty(server):
                server_pool.put(server.process)
            else:
                server.process.close()
            for worker in list(server.workers.values()):
                self._release(worker)
                worker.channel.close()
        self._servers.clear()
        if self._payload is not None:
            os.close(self._payload[0])
        self._epoll.close()
        os.close(self._wake)

    # --- servers ----------------------------------------------------------------------------

    def _server_for(self, cpus: float) -> _Server:
        if self._closed:
            raise RuntimeError("the engine is closed")
        threads = 0 if OMP_VARIABLE in os.environ else omp_threads(cpus)
        for server in self._servers.values():
            if server.threads == threads:
                return server
        surroundings = Surroundings.of_driver(cpus)
        wanted, later = preload.wanted()
        process = server_pool.take(surroundings, wanted)
        ready = process is not None
        server = self._adopt(process or ServerProcess(surroundings, wanted, later), threads)
        server.ready = ready
        return server

    def _adopt(self, process: ServerProcess, threads: int) -> _Server:
        server = _Server(process, threads)
        self._servers[process.fileno()] = server
        self._epoll.register(process.fileno(), select.EPOLLIN)
        return server

    def _fork(self, server: _Server, worker: LocalWorker) -> None:
        """Ask a server for a worker; if it is dead, :meth:`_listen` will notice."""
        assert self._payload is not None
        fd, load = self._payload
        with contextlib.suppress(ChannelClosedError):
            if not server.loaded:
                server.process.send(load, (fd,))
                server.loaded = True
            server.process.send(Fork(worker.spec), worker.unsent)

    def _listen(self, server: _Server) -> None:
        try:
            while (answer := server.process.receive()) is not None:
                self._handle(server, answer)
        except ChannelClosedError:
            self._lost(server)

    def _handle(self, server: _Server, answer: messages.Answer) -> None:
        if isinstance(answer, Ready):
            server.ready = True
            server.process.seconds = answer.seconds
            for module, reason in answer.dropped:
                # Once per process: the next fit finds the same.
                log = logger.debug if module in _told else logger.warning
                _told.add(module)
                log(
                    "workers import %s themselves instead of inheriting it: %s, which a fork "
                    "would break; starting a worker takes longer",
                    module,
                    reason,
                )
        elif isinstance(answer, Forked):
            server.workers[answer.worker_id].exists(answer.pid)
        elif isinstance(answer, NotForked):
            worker = server.workers.pop(answer.worker_id)
            self._release(worker)
            self._tell(StartFailed(answer.worker_id, answer.reason))
        elif isinstance(answer, Ended):
            if answer.stuck:
                logger.warning(
                    "worker %s left processes that cannot be killed (waiting inside the kernel, "
                    "usually for a file system): %s",
                    answer.worker_id,
                    ", ".join(map(str, answer.stuck)),
                )
            self._ended(server, answer.worker_id, answer.status)

    def _ended(self, server: _Server, worker_id: str, status: int) -> None:
        worker = server.workers.pop(worker_id)
        for fd in list(worker.streams):
            self._read(fd, to_the_end=True)
        self._release(worker)
        if os.WIFSIGNALED(status):
            self._tell(Exited(worker_id, None, os.WTERMSIG(status)))
        else:
            self._tell(Exited(worker_id, os.WEXITSTATUS(status), None))

    def _lost(self, server: _Server) -> None:
        """A server died by itself: its workers died with it, or were never started."""
        process = server.process
        self._epoll.unregister(process.fileno())
        del self._servers[process.fileno()]
        details = process.close()
        started = [w for w in server.workers.values() if w.pid is not None]
        waiting = [w for w in server.workers.values() if w.pid is None]
        for worker in started:
            assert worker.pid is not None
            tree.kill_session(worker.pid)
            self._ended(server, worker.worker_id, signal.SIGKILL)
        if server.ready or not process.preload:
            logger.warning("the process that forks workers has died (%s)", details)
            for worker in waiting:
                self._release(worker)
                self._tell(
                    StartFailed(worker.worker_id, f"the process that forks workers died: {details}")
                )
            return
        logger.warning(
            "the process that forks workers died while importing the driver's packages (%s); "
            "workers import them themselves now, so starting one takes longer",
            details,
        )
        try:
            again = self._adopt(ServerProcess(process.surroundings), server.threads)
        except WorkerStartError as error:
            for worker in waiting:
                self._release(worker)
                self._tell(StartFailed(worker.worker_id, str(error)))
            return
        for worker in waiting:
            worker.move_to(again.process)
            again.workers[worker.worker_id] = worker
            self._fork(again, worker)

    def _empty(self, server: _Server) -> bool:
        """Kill a server's workers and wait until they are gone; False if that takes too long."""
        for worker in server.workers.values():
            worker.kill()
        poll = select.poll()
        poll.register(server.process.fileno(), select.POLLIN)
        try:
            while server.workers:
                if not poll.poll(_CLOSE_WAIT_S * 1000):
                    return False
                answer = server.process.receive()
                if isinstance(answer, Ended | NotForked):
                    worker = server.workers.pop(answer.worker_id)
                    self._release(worker)
                    worker.channel.close()
        except ChannelClosedError:
            return False
        return True

    # --- output -----------------------------------------------------------------------------

    def _read(self, fd: int, *, to_the_end: bool = False) -> None:
        """Take what a worker has written; once, or until the pipe is empty."""
        worker = self._streams[fd]
        while True:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self._close_stream(worker, fd)
                return
            self._tell(Output(worker.worker_id, WorkerOutput(worker.streams[fd], data)))
            if not to_the_end:
                return

    def _close_stream(self, worker: LocalWorker, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._streams[fd]
        del worker.streams[fd]
        os.close(fd)

    def _release(self, worker: LocalWorker) -> None:
        """Close what belongs to a worker, except its channel: messages may be left in it."""
        worker.close_unsent()
        for fd in list(worker.streams):
            self._close_stream(worker, fd)

    def _tell(self, event: EngineEvent) -> None:
        self._pending.append(event)
        os.eventfd_write(self._wake, 1)
