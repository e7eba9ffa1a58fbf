"""What the kernel says of processes: a process id alone may have been given to another since."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

_ENDED = frozenset("ZX")  # not waited for yet, or going away


class Stat(NamedTuple):
    """One process.

    Attributes:
        has_ended: it runs no more; somebody has to wait for it (a zombie).
        parent: its parent's process id.
        session: the process id of its session's leader.
        started: when it was started, in clock ticks since boot.
    """

    has_ended: bool
    parent: int
    session: int
    started: int


def stat(pid: int) -> Stat | None:
    """Look a process up; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name, in parentheses, may itself hold blanks and parentheses.
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(fields[0].decode() in _ENDED, int(fields[1]), int(fields[3]), int(fields[19]))


def pids() -> list[int]:
    """All process ids of this machine (of this container)."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for does not count."""
    found = stat(pid)
    return found is not None and not found.has_ended


def started_at(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if it has ended."""
    found = stat(pid)
    return 0 if found is None or found.has_ended else found.started


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this id and start time still runs."""
    return started != 0 and started_at(pid) == started


def session_members(session: int) -> list[int]:
    """The processes of a session that still run, without the caller."""
    members = []
    for pid in pids():
        found = stat(pid) if pid != os.getpid() else None
        if found is not None and found.session == session and not found.has_ended:
            members.append(pid)
    return members


@cache
def boot_id() -> str:
    """The id of this boot of the machine; empty where a sandbox does not tell it.

    Files that were never flushed do not outlive it.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
