"""The driver's end of one fork server: starting it, talking to it, ending it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Any, NamedTuple

from milepost.engine import messages, tree
from milepost.engine.messages import OMP_VARIABLE, Answer, Request, Setup
from milepost.errors import WorkerStartError

# Finds our modules as the driver finds them, but the standard library first: the driver may have
# added directories with files such as select.py after it had imported its own.
_PROGRAM = """# The fork server of Milepost.
import pickle, sys
with open(int(sys.argv[2]), "rb", closefd=False) as setup:
    setup.seek(0)
    driver_path = pickle.load(setup)
sys.path[:] = [p for p in sys.path if not p.endswith("-packages")] + list(driver_path)
from milepost.engine.forkserver import main
main()
"""
# Variables that no import depends on and that change all the time.
_IGNORED = ("PYTEST_CURRENT_TEST", "COLUMNS", "LINES", "SHLVL", "_")
_END_WAIT_S = 10.0
_TAIL_BYTES = 4000


class Identity(NamedTuple):
    """What a server takes over from its driver at its start; another one needs another server.

    Attributes:
        environment: environment variables, ``OMP_NUM_THREADS`` among them: libraries read them
            when they are imported.
        interpreter: path of the Python interpreter and its options.
    """

    environment: tuple[tuple[str, str], ...]
    interpreter: tuple[str, ...]

    @classmethod
    def of_driver(cls, cpus: float) -> Identity:
        """What workers of this process with that many CPUs need."""
        environment = {k: v for k, v in os.environ.items() if k not in _IGNORED}
        environment.setdefault(OMP_VARIABLE, str(omp_threads(cpus)))
        environment.setdefault("PL_DISABLE_FORK", "1")
        options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        # The driver's sys.path is handed over whole; nothing may be found beside the script.
        return cls(tuple(sorted(environment.items())), (sys.executable, *options, "-P"))


class ServerProcess:
    """A running fork server.

    Args:
        identity: its environment and interpreter.
        preload: modules that it imports before it forks.
        later: modules that it imports when it has nothing else to do.

    Attributes:
        pid: its process.
        identity: as given.
        preload: as given.
        seconds: how long its imports took; set by whoever receives its ``Ready``.

    Raises:
        WorkerStartError: it cannot be started at all.
    """

    def __init__(
        self,
        identity: Identity,
        preload: tuple[str, ...] = (),
        later: tuple[str, ...] = (),
    ) -> None:
        self.identity = identity
        self.preload = preload
        self.seconds = 0.0
        self._ending = ""
        self._owner = os.getpid()
        self._errors = os.memfd_create("milepost-server-stderr", os.MFD_CLOEXEC)
        setup = Setup(preload, later, (), os.getpid())
        setup_fd = os.memfd_create("milepost-server-setup", os.MFD_CLOEXEC)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            messages.write_setup(setup_fd, absolute_sys_path(), setup)
            self._process = subprocess.Popen(
                [
                    *identity.interpreter,
                    "-c",
                    _PROGRAM,
                    str(theirs.fileno()),
                    str(setup_fd),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=dict(identity.environment),
                pass_fds=(theirs.fileno(), setup_fd),
                start_new_session=True,  # signals of the terminal reach the driver only
            )
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise WorkerStartError(
                f"cannot start the process that forks workers ({sys.executable}): {error}"
            ) from error
        finally:
            theirs.close()
            os.close(setup_fd)
        self.pid = self._process.pid

    def fileno(self) -> int:
        """Readable when :meth:`receive` has something, or when the server has died."""
        return self._socket.fileno()

    def send(self, request: Request, fds: tuple[int, ...] = ()) -> None:
        """Send a request.

        Raises:
            ChannelClosedError: the server has died.
            OSError: it is too large to be sent.
        """
        messages.send(self._socket, request, fds)

    def receive(self) -> Answer | None:
        """Return the next answer, or None when there is none now; never waits.

        Raises:
            ChannelClosedError: the server has died.
        """
        received: tuple[Any, list[int]] | None = messages.receive(self._socket, wait=False)
        return None if received is None else received[0]

    @property
    def end(self) -> str:
        """How the process ended, once it is closed."""
        code = self._process.returncode
        if code is None:
            return "it cannot be killed"
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"signal {-code}"

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def close(self) -> str:
        """End the server with all its workers and wait for that; safe to call twice.

        Returns:
            How it ended and the last it wrote to standard error, for messages.
        """
        if self._socket.fileno() < 0:
            return self._ending
        if os.getpid() != self._owner:  # a fork of the driver: the server is not its own
            self._socket.close()
            os.close(self._errors)
            return self._ending
        self._socket.close()
        self._process.terminate()  # in case it is in the middle of an import
        # Not Popen.wait() with a timeout, which sleeps up to 50 ms at a time.
        if tree.wait_dead([self.pid], _END_WAIT_S):  # stopped, or an import hangs
            tree.kill_session(self.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        size = os.fstat(self._errors).st_size
        tail = os.pread(self._errors, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        os.close(self._errors)
        said = tail.decode(errors="replace").strip() or "none"
        self._ending = f"{self.end}; its last output: {said}"
        return self._ending


def omp_threads(cpus: float) -> int:
    """Number of threads for a worker with that many CPUs, as Ray counts.

    Several trials that each use all cores would slow each other down.
    """
    return max(1, int(cpus))


def absolute_sys_path() -> tuple[str, ...]:
    """``sys.path`` for processes that run in other directories."""
    return tuple(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str))
