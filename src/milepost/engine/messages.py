"""Messages between the driver and one fork server, over a ``SOCK_SEQPACKET`` socket.

They are pickled: both ends are our own processes. File descriptors travel beside them. The end of
file means that the other end is gone: the server then kills every worker and ends.
"""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from milepost.engine.protocol import WorkerSpec
from milepost.errors import ChannelClosedError

_SPACE_FOR_FDS = socket.CMSG_SPACE(8 * array.array("i").itemsize)
_LARGEST = 1 << 18
OMP_VARIABLE = "OMP_NUM_THREADS"
# Set for workers unless the user has set them.
DEFAULT_VARIABLES = (OMP_VARIABLE, "PL_DISABLE_FORK")


class Setup(NamedTuple):
    """What a server is made of.

    It lies in a memory file that survives an exec, after the driver's ``sys.path`` alone, which
    is needed to import this class.

    Attributes:
        preload: modules to import before the first fork, in this order.
        later: modules to import when there is nothing else to do.
        dropped: modules that were found unfit for it, with the reason.
        driver_pid: whose death ends the server.
    """

    preload: tuple[str, ...]
    later: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    driver_pid: int


# --- driver to server -----------------------------------------------------------------------


class Load(NamedTuple):
    """The trainable of the next workers; the memory file with it travels beside this message.

    Attributes:
        index: where the file's index begins.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs


class Preload(NamedTuple):
    """Import more modules before the next fork; :class:`Ready` answers.

    Attributes:
        sys_path: the driver's module search path.
        modules: their names, in this order.
    """

    sys_path: tuple[str, ...]
    modules: tuple[str, ...]


class Fork(NamedTuple):
    """Start a worker; its channel, stdout and stderr travel beside this message."""

    spec: WorkerSpec


class Signal(NamedTuple):
    """Send a signal to a worker process."""

    worker_id: str
    signum: int


class Kill(NamedTuple):
    """Kill a worker and everything it started."""

    worker_id: str


# --- server to driver -----------------------------------------------------------------------


class Ready(NamedTuple):
    """The modules are imported.

    Attributes:
        seconds: how long that took.
        dropped: as in :class:`Setup`; the driver logs each.
    """

    seconds: float
    dropped: tuple[tuple[str, str], ...]


class Forked(NamedTuple):
    """A worker process exists; it is the leader of a session of that number."""

    worker_id: str
    pid: int


class NotForked(NamedTuple):
    """A worker could not be started."""

    worker_id: str
    reason: str


class Ended(NamedTuple):
    """A worker process and everything it started have ended.

    Attributes:
        status: as from ``os.waitpid``.
        killed: how many processes that it left behind were killed.
        stuck: processes that could not be killed within the time allowed.
    """

    worker_id: str
    status: int
    killed: int = 0
    stuck: tuple[int, ...] = ()


Request = Load | Preload | Fork | Signal | Kill
Answer = Ready | Forked | NotForked | Ended


def write_setup(fd: int, sys_path: Sequence[str], setup: Setup) -> None:
    """Replace the content of a server's memory file."""
    os.truncate(fd, 0)
    os.pwrite(fd, pickle.dumps(tuple(sys_path)) + pickle.dumps(setup), 0)


def read_setup(fd: int) -> tuple[tuple[str, ...], Setup]:
    """Read what :func:`write_setup` wrote."""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return pickle.load(file), pickle.load(file)


def send(sock: socket.socket, message: Any, fds: Sequence[int] = ()) -> None:
    """Send one message, waiting for room.

    Raises:
        ChannelClosedError: the other end is gone.
        OSError: the message is too large, or there are too many descriptors in flight.
    """
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if sock.fileno() < 0:
        raise ChannelClosedError("the fork server's socket is closed")
    try:
        socket.send_fds(sock, [data], list(fds))
    except ConnectionError as error:
        raise ChannelClosedError(f"the fork server's socket is closed ({error})") from error


def receive(sock: socket.socket, *, wait: bool = True) -> tuple[Any, list[int]] | None:
    """Receive one message with its descriptors, which are closed at an exec.

    Returns:
        The message, or None if ``wait`` is False and there is none now.

    Raises:
        ChannelClosedError: the other end is gone.
    """
    flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
    try:
        data, ancillary, _, _ = sock.recvmsg(_LARGEST, _SPACE_FOR_FDS, flags)
    except BlockingIOError:
        return None
    except OSError as error:
        raise ChannelClosedError(f"the fork server's socket is closed ({error})") from error
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        close_all(fds)
        raise ChannelClosedError("the other end of the fork server's socket has closed it")
    return pickle.loads(data), list(fds)


def close_all(fds: Sequence[int] | array.array[int]) -> None:
    """Close descriptors, ignoring those that are closed already."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
