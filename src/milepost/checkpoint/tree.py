"""Reading a directory tree: what it holds, and its digests."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from milepost.checkpoint.manifest import (
    MANIFEST_NAME,
    METADATA_NAME,
    FileEntry,
    link_stays_inside,
)
from milepost.checkpoint.validation import OUTCOME_NAME
from milepost.errors import CaptureError
from milepost.storage import names, posix


class Item(NamedTuple):
    """One entry of a tree: its path relative to the root with ``/``, and its ``lstat``."""

    path: str
    info: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory (a link to one is not)."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.info.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.info.st_mode)


class Tree(NamedTuple):
    """What a manifest says about a directory: files, empty directories, bytes in all."""

    files: list[FileEntry]
    directories: list[str]
    nbytes: int


def walk(root: str) -> Iterator[Item]:
    """Yield everything below ``root``, each directory after its entries, in sorted order."""
    yield from _walk(root, "")


def _walk(directory: str, prefix: str) -> Iterator[Item]:
    with os.scandir(directory) as entries:
        found = sorted((entry.name, entry) for entry in entries)
    for name, entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{name}/")
        yield Item(prefix + name, entry.stat(follow_symlinks=False))


def is_listed(path: str) -> bool:
    """Tell whether a manifest lists a path, rather than it being ours or replaceable metadata."""
    return path not in (MANIFEST_NAME, METADATA_NAME, OUTCOME_NAME) and not names.is_leftover(path)


def digest(path: str) -> tuple[str, int]:
    """Read a regular file and return its XXH3-128 in hex and the number of bytes read."""
    hasher = new_hasher()
    size = 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        buffer = posix.block_buffer(fd)
        while count := os.readv(fd, [buffer]):
            hasher.update(buffer[:count])
            size += count
    finally:
        os.close(fd)
    return hasher.hexdigest(), size


def new_hasher() -> Any:
    """Return a fresh XXH3-128 hasher, to be fed while copying."""
    import xxhash

    return xxhash.xxh3_128()


def describe(tree: str, *, known: Mapping[str, str] | None = None) -> Tree:
    """List a directory for its manifest, with a digest of each file.

    The tree must not change meanwhile. Top-level ``.milepost.json`` and ``.metadata.json`` and
    names that a sweep removes are left out.

    Args:
        tree: the directory.
        known: digests in hex by relative path, computed while copying; those files are not read.

    Raises:
        CaptureError: it holds something that no checkpoint can: a FIFO, a socket, a device, a
            link that leads out of it, or a name that is not UTF-8.
    """
    digests = known or {}
    files: list[FileEntry] = []
    directories: list[str] = []
    occupied: set[str] = set()
    total = 0
    for item in walk(tree):
        if not is_listed(item.path):
            continue
        _require_utf8(tree, item.path)
        parent = item.path.rpartition("/")[0]
        if item.is_directory:
            if item.path not in occupied:
                directories.append(item.path)
        elif item.is_link:
            files.append(_link_entry(tree, item))
        elif item.is_file:
            entry = _file_entry(tree, item, digests.get(item.path))
            files.append(entry)
            total += entry.size
        else:
            raise CaptureError(
                f"{os.path.join(tree, item.path)} is a {_kind(item.info)}; a checkpoint can hold "
                "regular files, directories and symbolic links only"
            )
        occupied.add(parent)
    files.sort(key=lambda entry: entry.path)
    return Tree(files, sorted(directories), total)


def _file_entry(tree: str, item: Item, known: str | None) -> FileEntry:
    mode = stat.S_IMODE(item.info.st_mode)
    if known is not None:
        return FileEntry(item.path, item.info.st_size, known, mode)
    value, size = digest(os.path.join(tree, item.path))
    return FileEntry(item.path, size, value, mode)


def _link_entry(tree: str, item: Item) -> FileEntry:
    target = os.readlink(os.path.join(tree, item.path))
    if not link_stays_inside(item.path, target):
        raise CaptureError(
            f"{os.path.join(tree, item.path)} is a symbolic link to {target!r}, which leads out of "
            "the checkpoint; save the file itself instead"
        )
    _require_utf8(tree, target)
    return FileEntry(item.path, link=target)


def _require_utf8(tree: str, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise CaptureError(
            f"the file name {os.fsencode(path)!r} in {tree} is not UTF-8, so no manifest can list "
            "it; rename the file"
        ) from None


def _kind(info: os.stat_result) -> str:
    kinds = {
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
    }
    return kinds.get(stat.S_IFMT(info.st_mode), "special file")
