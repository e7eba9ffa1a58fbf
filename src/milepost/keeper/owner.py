"""Which keeper serves an experiment on this node: at most one, by a lock in the node root."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import time

from milepost.keeper.intent import ExperimentRef
from milepost.process import is_alive, started_at
from milepost.storage import posix

log = logging.getLogger("milepost.keeper")

_OWNERS = "owners"
_POLL_S = 0.02


class OwnerLock:
    """The lock on an experiment's staging; the kernel releases it when its holder dies."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def release(self) -> None:
        """Give it up; safe to call twice."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                posix.unlink(self._path)  # while it is held, so that whoever waits makes a new one
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                posix.rmdir(os.path.dirname(self._path))


def try_lock(node_root: str, experiment: ExperimentRef) -> OwnerLock | None:
    """Take the lock, or return None while another keeper holds it."""
    path = _path(node_root, experiment)
    while True:
        with contextlib.suppress(FileExistsError):
            posix.mkdir(os.path.dirname(path), 0o700)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the directory went, with the last lock in it
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _is_at(path, fd):
            posix.truncate(fd, 0)
            posix.pwrite(fd, f"{os.getpid()} {started_at(os.getpid())}\n".encode(), 0)
            return OwnerLock(path, fd)
        os.close(fd)


def await_predecessor(node_root: str, experiment: ExperimentRef, timeout_s: float) -> bool:
    """Wait until the keeper of an earlier driver of this experiment has finished, or end it.

    A driver that takes an experiment over calls this before it reads the journal: what the old
    keeper commits until then is in it or is found by its manifest. What it does not get to is
    committed by the new one, see :class:`~.client.DriverLink`.

    Args:
        node_root: the node root.
        experiment: the experiment.
        timeout_s: how long the old keeper may still work.

    Returns:
        Whether there was one.
    """
    holder = _holder(node_root, experiment)
    if holder is None:
        return False
    log.info("waiting for the keeper of an earlier run (process %d) to finish", holder[0])
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _holder(node_root, experiment) is None:
            return True
        time.sleep(_POLL_S)
    while (holder := _holder(node_root, experiment)) is not None:
        log.warning(
            "the keeper of an earlier run (process %d) has not finished after %.0f s and is ended; "
            "what it had not committed stays in staging and is committed now",
            holder[0],
            timeout_s,
        )
        _kill(*holder)
    return True


def _kill(pid: int, started: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(pid, started):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


def _holder(node_root: str, experiment: ExperimentRef) -> tuple[int, int] | None:
    """Process id and start time of the keeper that holds the lock, if one does."""
    path = _path(node_root, experiment)
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.pread(fd, 100, 0).split()
            if len(words) == 2:
                return int(words[0]), int(words[1])
            time.sleep(_POLL_S)  # it was taken this very moment
        else:
            return None
        finally:
            os.close(fd)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _path(node_root: str, experiment: ExperimentRef) -> str:
    name = f"{experiment.uuid}-{experiment.device}-{experiment.inode}"
    return os.path.join(node_root, _OWNERS, name)
