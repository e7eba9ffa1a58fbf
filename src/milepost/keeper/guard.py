"""Guarding staged files in the process that captures them, on the keeper's behalf.

The worker takes the read leases of :mod:`milepost.keeper.lease`, because asking the keeper to do so
would take two wake-ups of processes, far longer than everything else in a capture. The kernel
signals whoever owns the descriptor, and that is the keeper from the first: a worker could be killed
by a signal that it does not expect. The descriptors then travel to the keeper, and the leases with
them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from typing import NamedTuple

log = logging.getLogger("milepost.keeper")


class Guarded(NamedTuple):
    """A staged file and the descriptor that has a lease on it."""

    path: str
    fd: int


def guard(root: str, path: str, keeper_pid: int) -> Guarded | None:
    """Take a lease on a staged file; None where that cannot be done, so it must be copied.

    That is when it is open for writing or mapped somewhere, or the file system has no leases.

    Args:
        root: the captured tree.
        path: of the file in it.
        keeper_pid: the process that gets the kernel's signals.
    """
    where = f"{root}/{path}"
    try:
        fd = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:  # gone or unreadable: the copy will tell
        log.debug("no lease on %s: %s", where, error)
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETOWN, keeper_pid)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        log.debug("no lease on %s: %s", where, error)
        os.close(fd)
        return None
    return Guarded(path, fd)


def is_written(root: str, path: str, keeper_pid: int) -> bool:
    """Whether a staged file is open for writing, or that cannot be told."""
    guarded = guard(root, path, keeper_pid)
    if guarded is None:
        return True
    release(guarded.fd)
    return False


def release(fd: int) -> None:
    """End a lease and close its descriptor.

    A child that was forked meanwhile may have the descriptor too, so closing alone does not do.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(fd)
