"""The fork server: a small process that imports the driver's packages once and forks workers.

It is started by exec (:mod:`milepost.engine.server_process`) and knows nothing of the user's
script, so no worker ever imports or runs that again. It has one thread and no state worth saving.
It ends, with every worker and everything that workers have started, when the driver closes its
socket or dies.

A worker is a fork of the server that was made ahead of time and waits for its orders. Each worker
adopts the orphans among its descendants, and so does the server: when a worker has ended, whatever
it left behind are the server's only unknown children, and these are killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from milepost.engine import child, messages, preload, tree
from milepost.engine.messages import (
    Ended,
    Fork,
    Forked,
    Kill,
    Load,
    NotForked,
    Preload,
    Ready,
    Setup,
    Signal,
)
from milepost.engine.protocol import WorkerSpec
from milepost.errors import ChannelClosedError
from milepost.worker import node, process

_RETRIES = 2  # how often a module that must not be preloaded is dropped; then all are
_QUIET_MS = 150


class _Worker(NamedTuple):
    worker_id: str
    pid: int
    pidfd: int


class _Idle(NamedTuple):
    pid: int
    orders: socket.socket


class ForkServer:
    """Forks workers on request and tells how they end.

    Args:
        control: the socket to the driver.
        later: modules to import when there is nothing else to do.
    """

    def __init__(self, control: socket.socket, later: Sequence[str]) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._workers: dict[int, _Worker] = {}  # by pidfd
        self._idle: _Idle | None = None
        self._load: Load | None = None
        self._payload_fd = -1
        self._later = list(later)

    def serve(self) -> None:
        """Handle requests and deaths until the driver is gone; leaves no process behind."""
        try:
            while True:
                ready = self._poll.poll(_QUIET_MS if self._later else None)
                if not ready:
                    self._import_later()
                for fd, _ in ready:
                    if fd in self._workers:
                        self._bury(self._workers.pop(fd))
                    elif not self._answer():
                        return
        except ChannelClosedError:
            return
        finally:
            self.end()

    def abandoned(self) -> bool:
        """Whether the driver has closed its end."""
        try:
            return not self._control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self) -> None:
        """Kill every worker and everything that they have started."""
        self._control.close()
        for worker in self._workers.values():
            tree.kill(worker.pid)
        tree.kill_until_gone(self._leftovers_of_all)

    # --- requests ---------------------------------------------------------------------------

    def _answer(self) -> bool:
        """Handle one request; False when the driver is gone."""
        try:
            received = messages.receive(self._control, wait=False)
        except ChannelClosedError:
            return False
        if received is None:
            return True
        request, fds = received
        if isinstance(request, Load):
            if self._payload_fd >= 0:
                os.close(self._payload_fd)
            (self._payload_fd,) = fds
            self._load = request
        elif isinstance(request, Preload):
            sys.path[:] = request.sys_path
            return self._preload(request.modules)
        elif isinstance(request, Fork):
            try:
                self._start(request.spec, fds)
            finally:
                messages.close_all(fds)
            self.fork_ahead()
        elif isinstance(request, Signal):
            for worker in self._find(request.worker_id):
                with contextlib.suppress(PermissionError):  # it has become another user
                    os.kill(worker.pid, request.signum)  # not reaped yet, so the id is its own
        elif isinstance(request, Kill):
            for worker in self._find(request.worker_id):
                tree.kill(worker.pid)
        return True

    def _preload(self, modules: Sequence[str]) -> bool:
        """Import more for the next workers; False if this process must not fork any more."""
        start = time.process_time()
        for name in modules:
            if preload.import_one(name) is not None:
                return False  # the driver starts another server, which leaves that module out
        self._renew_idle()
        messages.send(self._control, Ready(time.process_time() - start, ()))
        return True

    def _find(self, worker_id: str) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.worker_id == worker_id]

    def _start(self, spec: WorkerSpec, fds: list[int]) -> None:
        """Give an idle worker its orders; one that has died meanwhile is replaced once."""
        assert self._load is not None, "Load comes before Fork"
        reason = ""
        for _ in range(2):
            refusal = self.fork_ahead()
            if self._idle is None:
                reason = f"no process can be forked: {refusal}"
                break
            idle, self._idle = self._idle, None
            order = child.Order(spec, self._load)
            try:
                with idle.orders:
                    messages.send(idle.orders, order, [*fds, self._payload_fd])
            except OSError as error:  # it has died, or a limit is met
                tree.kill(idle.pid)
                _, status = os.waitpid(idle.pid, 0)
                reason = f"the process forked ahead ended with wait status {status} ({error})"
                continue
            pidfd = os.pidfd_open(idle.pid)
            self._workers[pidfd] = _Worker(spec.worker_id, idle.pid, pidfd)
            self._poll.register(pidfd, select.POLLIN)
            messages.send(self._control, Forked(spec.worker_id, idle.pid))
            return
        messages.send(self._control, NotForked(spec.worker_id, reason))

    def _import_later(self) -> None:
        """Import the next module ahead of need; the last one makes a new idle worker."""
        preload.import_one(self._later.pop(0))  # none of these starts a thread
        if not self._later:
            self._renew_idle()

    def _renew_idle(self) -> None:
        """Have the waiting worker be one that has all modules."""
        gc.freeze()
        if self._idle is not None:
            self._idle.orders.close()  # ends it
            os.waitpid(self._idle.pid, 0)
            self._idle = None
        self.fork_ahead()

    # --- deaths -----------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """Reap a worker, kill what it left behind, tell the driver."""
        self._poll.unregister(worker.pidfd)
        os.close(worker.pidfd)
        _, status = os.waitpid(worker.pid, 0)
        killed, stuck = tree.kill_until_gone(self._leftovers)
        messages.send(self._control, Ended(worker.worker_id, status, killed, stuck))

    def _leftovers(self) -> list[int]:
        """Children that are no workers of ours; those that have ended are reaped."""
        known = {worker.pid for worker in self._workers.values()}
        if self._idle is not None:
            known.add(self._idle.pid)
        return [pid for pid in tree.children() if pid not in known and not _reap(pid)]

    def _leftovers_of_all(self) -> list[int]:
        return [pid for pid in tree.children() if not _reap(pid)]

    # --- forking ----------------------------------------------------------------------------

    def fork_ahead(self) -> OSError | None:
        """Have one worker wait that is forked already.

        Returns:
            Why there is none: no memory, or too many processes.
        """
        if self._idle is not None:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.getpid()
        with warnings.catch_warnings():
            # Idle threads of numerical libraries; Python threads were ruled out.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                pid = os.fork()
            except OSError as error:
                ours.close()
                theirs.close()
                return error
        if pid == 0:
            ours.close()
            child.live(server, theirs, self._let_go)
        theirs.close()
        self._idle = _Idle(pid, ours)
        return None

    def _let_go(self) -> None:
        """In a forked child: close what belongs to the server."""
        self._control.close()
        for worker in self._workers.values():
            os.close(worker.pidfd)
        if self._payload_fd >= 0:
            os.close(self._payload_fd)


def _reap(pid: int) -> bool:
    """Reap a child if it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _end_with_driver(setup: Setup, server: ForkServer) -> None:
    """Have the driver's death, or its wish, end the server in the middle of an import as well.

    The kernel's signal comes at the end of the driver's *thread* that started the server, so the
    handler looks whether the driver itself is gone. SIGTERM from elsewhere is ignored, and so are
    SIGINT and SIGUSR1: when a whole job is told to stop, the driver decides what its workers do.
    """
    me = os.getpid()

    def on_sigterm(signum: int, frame: Any) -> None:
        if os.getpid() == me and (os.getppid() != setup.driver_pid or server.abandoned()):
            server.end()
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_sigterm)
    process.die_with_parent(signal.SIGTERM, setup.driver_pid)


def _start_again(setup_fd: int, setup: Setup, culprit: str, reason: str) -> NoReturn:
    """Become a new process without a module that made forking unsafe."""
    dropped = (*setup.dropped, (culprit, reason))
    rest = tuple(
        name for name in setup.preload if name.partition(".")[0] != culprit.partition(".")[0]
    )
    os.set_inheritable(setup_fd, True)
    if len(dropped) >= _RETRIES:
        rest = ()
    again = setup._replace(preload=rest, dropped=dropped)
    messages.write_setup(setup_fd, messages.read_setup(setup_fd)[0], again)
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def main() -> None:
    """Run a fork server. Arguments: descriptors of the control socket and of the setup file."""
    control_fd, setup_fd = (int(argument) for argument in sys.argv[1:3])
    sys_path, setup = messages.read_setup(setup_fd)
    sys.path[:] = sys_path
    sys.argv[:] = [""]  # what a trainable sees that parses arguments
    process.set_name("milepost-server")
    process.reset_signals()  # an ignored SIGCHLD or a signal mask would be inherited
    process.adopt_orphans()
    control = socket.socket(fileno=control_fd)
    server = ForkServer(control, setup.later)
    _end_with_driver(setup, server)
    gc.disable()  # until the fork: fewer pages are written to
    start = time.process_time()
    node.hostname(), node.ip()  # looked up once for all workers
    for name in setup.preload:
        reason = preload.import_one(name)
        if reason is not None:
            _start_again(setup_fd, setup, name, reason)
    os.close(setup_fd)
    os.set_inheritable(control_fd, False)
    sys.path[:] = sys_path  # whatever the imports have added to it
    gc.freeze()
    try:
        messages.send(control, Ready(time.process_time() - start, setup.dropped))
        server.fork_ahead()
    except ChannelClosedError:
        return
    server.serve()
    os._exit(0)
