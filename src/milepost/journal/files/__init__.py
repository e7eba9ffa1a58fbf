"""The files that users find in a trial's directory, each made from the journal's records.

They are projections: they can be cut and written again, so they are never flushed on the way and
no descriptor stays open between batches.
"""

from __future__ import annotations

import contextlib
import os

from milepost.storage import posix


def append(path: str, data: bytes) -> None:
    """Write ``data`` at the end of a file in one go, creating it and its directory if need be."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        fd = posix.create_new(path)
    try:
        posix.append(fd, data)
    finally:
        os.close(fd)


def replace(path: str, data: bytes) -> None:
    """Give a file other content at once, creating it and its directory if need be."""
    from milepost.storage import names

    directory, name = os.path.split(path)
    make_directory(directory)
    draft = names.temporary(directory, name)
    posix.write_new(draft, data)
    posix.replace(draft, path)


def make_directory(path: str) -> None:
    """Create a trial's directory in its experiment's; one that exists is no error.

    The experiment's own is never created: it may just have been moved away.
    """
    if not os.path.isdir(path):
        with contextlib.suppress(FileExistsError):  # another process was faster
            posix.mkdir(path)


def cut(path: str, length: int) -> None:
    """Drop what a file has beyond ``length`` bytes."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        posix.truncate(fd, length)
    finally:
        os.close(fd)
