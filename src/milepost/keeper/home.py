"""The directory of a driver's keepers: their socket, log and lock."""

from __future__ import annotations

import contextlib
import fcntl
import os

from milepost.storage import posix

_HOMES = "keepers"
_LOCK = "lock"


class Home:
    """``<node root>/keepers/<id>``, made for one driver and the keepers that it starts.

    Making one also removes those of drivers that were killed and whose keepers have ended.

    Args:
        node_root: the node root.

    Attributes:
        path: the directory.
        lock: descriptor of a lock that the keepers inherit, so it is held until the last of
            driver and keepers has ended.

    Raises:
        OSError: the node root cannot be written.
    """

    def __init__(self, node_root: str) -> None:
        homes = os.path.join(node_root, _HOMES)
        _sweep(homes)
        while True:
            with contextlib.suppress(FileExistsError):
                posix.mkdir(homes, 0o700)
            self.path = os.path.join(homes, f"{os.getpid()}-{os.urandom(4).hex()}")
            try:
                posix.mkdir(self.path, 0o700)
                path = self.file(_LOCK)
                self.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # another driver has just swept it, being without a lock yet
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            if os.path.exists(path):
                return
            os.close(self.lock)

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Remove the directory; it may be gone."""
        remove_home(self.path)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self.lock)


def remove_home(path: str) -> None:
    """Remove a home, and the directory of homes if it was the last."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            if name != _LOCK:  # last: by it a home that was removed only in part is known
                posix.remove_tree(os.path.join(path, name))
    posix.remove_tree(path)
    with contextlib.suppress(OSError):
        posix.rmdir(os.path.dirname(path))  # another driver's may be in it


def _sweep(homes: str) -> None:
    try:
        found = os.listdir(homes)
    except FileNotFoundError:
        return
    for name in found:
        path = os.path.join(homes, name)
        try:
            fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                posix.rmdir(path)
            continue
        except NotADirectoryError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_home(path)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
