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

from milepost.engine import messages, preload, server_pool, tree
from milepost.engine.local_worker import LocalWorker
from milepost.engine.messages import (
    OMP_VARIABLE,
    Ended,
    Fork,
    Forked,
    Load,
    NotForked,
    Preload,
    Ready,
)
from milepost.engine.payload import Surroundings
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
    Identity,
    ServerProcess,
    absolute_sys_path,
    omp_threads,
)
from milepost.errors import ChannelClosedError, WorkerStartError
from milepost.worker.protocol import WorkerOutput

logger = logging.getLogger("milepost.engine")

_CHUNK = 1 << 16
_CLOSE_WAIT_S = 10.0
_told: set[str] = set()


class _Server:
    """A fork server in use, with its workers."""

    def __init__(
        self,
        process: ServerProcess,
        threads: int,
        otherwise: tuple[tuple[str, ...], tuple[str, ...]] | None,
    ) -> None:
        self.process = process
        self.threads = threads
        self.otherwise = otherwise  # what another server imports if this kept one cannot
        self.ready = False
        self.loaded = False
        self.workers: dict[str, LocalWorker] = {}


class LocalEngine:
    """Implements :class:`milepost.engine.protocol.Engine` on this machine."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
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
        around = Surroundings(absolute_sys_path(), _directory(), dict(os.environ))
        fd, index = write_payload(payload, around)
        if self._payload is not None:
            os.close(self._payload[0])
        self._payload = fd, Load(index)
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
        worker = LocalWorker(spec, server.process)
        for fd in worker.streams:
            self._streams[fd] = worker
            self._epoll.register(fd, select.EPOLLIN)
        server.workers[spec.worker_id] = worker
        try:
            self._fork(server, worker)
        except OSError as error:
            del server.workers[spec.worker_id]
            self._release(worker)
            worker.channel.close()
            raise WorkerStartError(f"cannot start worker {spec.name!r}: {error}") from error
        return worker

    def fileno(self) -> int:
        """Readable when :meth:`events` has something."""
        return self._epoll.fileno()

    def events(self) -> list[EngineEvent]:
        """What happened since the last call; never waits.

        All output that a worker wrote comes before its :class:`Exited`.
        """
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

    # --- servers ----------------------------------------------------------------------------

    def _server_for(self, cpus: float) -> _Server:
        if self._closed:
            raise RuntimeError("the engine is closed")
        threads = 0 if OMP_VARIABLE in os.environ else omp_threads(cpus)
        for server in self._servers.values():
            if server.threads == threads:
                return server
        identity = Identity.of_driver(cpus)
        wanted, later = preload.wanted()
        kept = server_pool.take(identity)
        if kept is None:
            return self._adopt(ServerProcess(identity, wanted, later), threads)
        more = preload.missing(wanted, kept.preload)
        server = self._adopt(kept, threads, (wanted, later))
        server.ready = not more
        if more:
            with contextlib.suppress(ChannelClosedError):  # _listen() notices
                kept.send(Preload(absolute_sys_path(), more))
                kept.preload += more
        return server

    def _adopt(
        self,
        process: ServerProcess,
        threads: int,
        otherwise: tuple[tuple[str, ...], tuple[str, ...]] | None = None,
    ) -> _Server:
        server = _Server(process, threads, otherwise)
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
            server.process.seconds += answer.seconds
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

    def _ended(self, server: _Server, worker_id: str, status: int, engine_died: str = "") -> None:
        worker = server.workers.pop(worker_id)
        for fd in list(worker.streams):
            self._read(fd, to_the_end=True)
        self._release(worker)
        if os.WIFSIGNALED(status):
            self._tell(Exited(worker_id, None, os.WTERMSIG(status), engine_died))
        else:
            self._tell(Exited(worker_id, os.WEXITSTATUS(status), None))

    def _lost(self, server: _Server) -> None:
        """A server died by itself: its workers died with it, or were never started."""
        process = server.process
        self._epoll.unregister(process.fileno())
        del self._servers[process.fileno()]
        details = process.close()
        died = f"the process that forks workers (pid {process.pid}) died: {process.end}"
        started = [w for w in server.workers.values() if w.pid is not None]
        waiting = [w for w in server.workers.values() if w.pid is None]
        for worker in started:
            assert worker.pid is not None
            tree.kill_session(worker.pid)
            self._ended(server, worker.worker_id, signal.SIGKILL, died)
        if server.otherwise is not None and not server.ready:
            logger.debug("a kept fork server cannot be used again (%s)", details)
            self._move(waiting, server, server.otherwise)
        elif server.ready or not process.preload:
            logger.warning("the process that forks workers has died (%s)", details)
            for worker in waiting:
                self._release(worker)
                self._tell(
                    StartFailed(
                        worker.worker_id, f"the process that forks workers died: {details}", died
                    )
                )
        else:
            logger.warning(
                "the process that forks workers died while importing the driver's packages (%s); "
                "workers import them themselves now, so starting one takes longer",
                details,
            )
            self._move(waiting, server, ((), ()))

    def _move(
        self,
        waiting: list[LocalWorker],
        server: _Server,
        modules: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        """Start workers on another server than the one that has ended."""
        try:
            again = self._adopt(ServerProcess(server.process.identity, *modules), server.threads)
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


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody has removed it
        return "/"
