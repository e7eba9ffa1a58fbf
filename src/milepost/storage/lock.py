"""Locks between threads and processes of one machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import xxhash

from milepost.storage.node import node_root


@contextlib.contextmanager
def path_lock(path: str) -> Iterator[bool]:
    """Hold the only lock on a path among all threads and processes of this user and machine.

    The lock is a file in the node root, named by the path's digest and removed afterwards; the
    kernel releases it when its holder dies.

    Args:
        path: need not exist; symbolic links in it are resolved.

    Yields:
        Whether the lock was free at once. False means that somebody else held it meanwhile.
    """
    name = xxhash.xxh3_128_hexdigest(os.fsencode(os.path.realpath(path)))
    directory = os.path.join(node_root(), "locks")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    file = os.path.join(directory, f"{name}.lock")
    fd, at_once = _acquire(file)
    owner = os.getpid()
    try:
        yield at_once
    finally:
        if os.getpid() == owner:  # not in a process that was forked meanwhile
            os.unlink(file)  # while we hold it, so that whoever waits notices and makes a new one
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _acquire(file: str) -> tuple[int, bool]:
    at_once = True
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                at_once = False
                fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(file, fd):
                return fd, at_once
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_at(file: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(fd))
    except FileNotFoundError:
        return False
