"""Small file systems of a chosen kind, for tests that need reflinks or a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Literal

Kind = Literal["tmpfs", "xfs", "btrfs"]

_LEAST_BYTES = {"tmpfs": 4096, "xfs": 320 << 20, "btrfs": 120 << 20}


class MountUnavailableError(Exception):
    """This machine, or this user, cannot mount such a file system."""


@contextlib.contextmanager
def mounted(kind: Kind, directory: str, nbytes: int = 0) -> Iterator[str]:
    """Mount a new file system for a ``with`` block. Needs root.

    Args:
        kind: ``"tmpfs"`` (a disk that is soon full), ``"xfs"`` or ``"btrfs"`` (with reflinks), on
            a sparse file.
        directory: an empty directory of the test's.
        nbytes: its size; at least what the kind needs.

    Yields:
        Where it is mounted.

    Raises:
        MountUnavailableError: it cannot be made here.
    """
    point = os.path.join(directory, "mount")
    size = max(nbytes, _LEAST_BYTES[kind])
    os.mkdir(point)
    if kind == "tmpfs":
        _call("mount", "-t", "tmpfs", "-o", f"size={size}", "none", point)
    else:
        image = os.path.join(directory, "image")
        with open(image, "wb") as file:
            file.truncate(size)
        _call(f"mkfs.{kind}", "-q", image)
        _call("mount", "-o", "loop", image, point)
    try:
        yield point
    finally:
        _call("umount", "-l", point)


def _call(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None or os.geteuid() != 0:
        raise MountUnavailableError(f"{program} needs root and must be installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MountUnavailableError(f"{program} failed: {done.stderr.strip()}")
