"""The processes that a worker has started, and their end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection

from milepost import process

KILL_WAIT_S = 5.0


def children() -> list[int]:
    """Ids of this process's children, zombies too. The process must have one thread only."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in process.pids() if (it := process.stat(pid)) and it.parent == me]


def kill(pid: int) -> None:
    """Send SIGKILL; a process that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def wait_dead(pids: Collection[int], timeout_s: float) -> list[int]:
    """Wait until processes have ended; zombies count as ended.

    Returns:
        Those that have not ended in time.
    """
    deadline = time.monotonic() + timeout_s
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.append(pid)
        finally:
            os.close(fd)
    return left


def kill_until_gone(
    find: Callable[[], list[int]], timeout_s: float = KILL_WAIT_S
) -> tuple[int, tuple[int, ...]]:
    """Kill what ``find`` finds, again and again until it finds nothing.

    Killed processes' own children may appear meanwhile.

    Args:
        find: returns the processes that must end; also reaps those that have.
        timeout_s: when to give up; a process inside a system call that cannot be interrupted (a
            dead network file system) does not end.

    Returns:
        How many were killed, and those that did not end.
    """
    deadline = time.monotonic() + timeout_s
    killed: set[int] = set()
    while found := find():
        for pid in found:
            kill(pid)
        killed.update(found)
        left = wait_dead(found, deadline - time.monotonic())
        if left:
            return len(killed), tuple(left)
    return len(killed), ()


def kill_session(session: int, timeout_s: float = KILL_WAIT_S) -> tuple[int, ...]:
    """Kill all processes of a session and wait for their end.

    For use where the session's processes are no children of ours. Zombies are left to whoever is
    their parent.

    Returns:
        Processes that did not end in time.
    """

    def alive() -> list[int]:
        members = [
            pid for pid in process.pids() if (it := process.stat(pid)) and it.session == session
        ]
        return wait_dead(members, 0)  # a process whose first thread has ended only looks dead

    return kill_until_gone(alive, timeout_s)[1]
