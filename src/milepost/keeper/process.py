"""Telling processes apart: a process id alone may have been given to another process since."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from functools import cache


@cache
def boot_id() -> str:
    """The id of this boot of the machine; files that were never flushed do not outlive it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def started_at(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if it has ended."""
    state, _session, started = _stat(pid)
    return 0 if state in ("Z", "X", "") else started


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this id and start time still runs (a zombie does not)."""
    return started != 0 and started_at(pid) == started


def session_members(session: int) -> list[int]:
    """The processes of a session that still run, without the caller."""
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            state, its_session, _started = _stat(int(name))
            if its_session == session and state not in ("Z", "X", ""):
                members.append(int(name))
    return members


def _stat(pid: int) -> tuple[str, int, int]:
    """State, session and start time of a process; an empty state if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name, in parentheses, may itself hold blanks and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0, 0
    return fields[0].decode(), int(fields[3]), int(fields[19])


def end_sessions(leaders: Iterable[int], timeout_s: float) -> None:
    """Kill the sessions of these processes, and wait until the leaders have ended.

    A process that does not lead its session is left alone.

    Args:
        leaders: process ids; those that have ended are ignored.
        timeout_s: how long to wait at most.
    """
    deadline = time.monotonic() + timeout_s
    for leader in leaders:
        try:
            pidfd = os.pidfd_open(leader)
        except ProcessLookupError:
            continue
        try:
            if _stat(leader)[1] != leader:
                continue
            for pid in [*session_members(leader), leader]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(pidfd)


def yield_to_training() -> None:
    """Let the calling thread, when it wakes up, push no other off a processor.

    A lower priority would be wrong: the thread may hold Python's lock, for which the loop waits.
    """
    with contextlib.suppress(PermissionError):  # some sandboxes allow no such call
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
