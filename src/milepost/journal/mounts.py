"""Whether other machines can reach a directory."""

from __future__ import annotations

import os
import re
from typing import Final

_LOCAL: Final = frozenset(
    (
        *("apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs"),
        *("overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"),
    )
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def is_local(path: str) -> bool:
    """Whether ``path`` lies on a file system that one machine alone can mount.

    Anything that is not known to be local counts as shared.
    """
    return file_system(path) in _LOCAL


def file_system(path: str) -> str:
    """Type of the file system of ``path`` as the kernel names it, or "" when it cannot be told."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    path = os.path.realpath(path)
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # The longest mount point wins; of two at one point, the later one is on top.
        if inside and len(point) >= best:
            best, kind = len(point), fields[fields.index("-") + 1]
    return kind
