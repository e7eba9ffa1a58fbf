"""Ends the processes of workers, and lets training go first."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from milepost import process


class Leader(NamedTuple):
    """A process that leads a session; its number alone may be another's one day.

    Attributes:
        pid: its number, and that of its session.
        started: when it was started, in clock ticks since boot.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Leader:
        """The process that has this number now."""
        found = process.stat(pid)
        return cls(pid, 0 if found is None else found.started)


def end_sessions(leaders: Iterable[Leader], timeout_s: float) -> None:
    """Kill the sessions of these processes, and wait until the leaders have ended.

    A process that does not lead its session is left alone. A leader that has ended may have left
    members behind; as long as there are any, the kernel gives its number to nobody else.

    Args:
        leaders: the processes.
        timeout_s: how long to wait at most.
    """
    deadline = time.monotonic() + timeout_s
    for leader in leaders:
        found = process.stat(leader.pid)
        if found is None:
            _kill(process.session_members(leader.pid))
        elif found.started == leader.started and found.session == leader.pid:
            with contextlib.suppress(ProcessLookupError), _watched(leader.pid) as ended:
                _kill([*process.session_members(leader.pid), leader.pid])
                select.select([ended], [], [], max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
