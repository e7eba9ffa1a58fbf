"""Looking at a directory that is to be captured: one pass, one ``lstat`` per entry."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from milepost.checkpoint.manifest import MANIFEST_NAME, METADATA_NAME, link_stays_inside
from milepost.checkpoint.tree import is_listed
from milepost.errors import CaptureError

_STAGING_PREFIX = ".milepost-staging-"
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


class SourceFile(NamedTuple):
    """A regular file to capture.

    Attributes:
        path: relative to the captured tree.
        where: its path now; elsewhere for a file behind a link that leads out of the directory.
        info: its ``lstat``.
    """

    path: str
    where: str
    info: os.stat_result


@dataclass(slots=True)
class Source:
    """What a directory holds.

    Attributes:
        directory: as it was given.
        device: ``st_dev`` of its first file.
        directories: all below it, parents first, relative.
        files: all regular files.
        links: symbolic links that stay links, with what they will read.
        strays: relative paths of links that lead out, whose targets are copied instead.
        nbytes: bytes of all files.
        is_committed: whether it has a manifest of ours.
    """

    directory: str
    device: int = 0
    directories: list[str] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    nbytes: int = 0
    is_committed: bool = False


def scan(directory: str) -> Source:
    """List a directory for its capture.

    A manifest and leftovers of Milepost in it are left out; ``.metadata.json`` is taken along.

    Raises:
        FileNotFoundError: there is no such directory.
        NotADirectoryError: it is something else.
        CaptureError: it holds something that no checkpoint can: a FIFO, a socket, a device, a
            link that leads out of it to nothing, or a name that is not UTF-8.
    """
    source = Source(directory)
    try:
        _scan(source, directory, "", ())
    except FileNotFoundError as error:
        if os.path.isdir(directory):
            raise CaptureError(
                f"{error.filename} disappeared while {directory} was being captured; nothing was "
                "published. Do not change a directory before report() has returned"
            ) from error
        raise FileNotFoundError(
            error.errno, "the checkpoint directory does not exist; nothing was captured", directory
        ) from None
    except NotADirectoryError as error:
        raise NotADirectoryError(
            error.errno,
            "a checkpoint is a directory, and this is a file; pass the directory that holds it",
            directory,
        ) from None
    return source


def _scan(source: Source, directory: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            path = prefix + entry.name
            if _is_ours(path):
                source.is_committed |= path == MANIFEST_NAME
                continue
            if entry.is_symlink():
                _take_link(source, entry.path, path, above)
                continue
            if entry.is_dir(follow_symlinks=False):
                _require_utf8(source, path)
                source.directories.append(path)
                _scan(source, entry.path, path + "/", above)
                continue
            _take_file(source, entry.path, path, entry.stat(follow_symlinks=False))


def _take_file(source: Source, where: str, path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), "a special file")
        raise CaptureError(
            f"{where} is {kind}; a checkpoint can hold regular files, directories and symbolic "
            "links only. Nothing was captured; keep it out of the checkpoint directory"
        )
    _require_utf8(source, path)
    if not source.files:
        source.device = info.st_dev
    source.files.append(SourceFile(path, where, info))
    source.nbytes += info.st_size


def _take_link(source: Source, where: str, path: str, above: tuple[tuple[int, int], ...]) -> None:
    """A link that stays inside stays a link; what another one leads to is taken in its place."""
    _require_utf8(source, path)
    root = os.path.realpath(source.directory)
    target, real = os.readlink(where), os.path.realpath(where)
    if real == root or real.startswith(root + os.sep):
        if not link_stays_inside(path, target):  # absolute, or by a detour
            target = os.path.relpath(real, os.path.dirname(os.path.join(root, path)))
        _require_utf8(source, target)
        source.links.append((path, target))
        return
    source.strays.append(path)
    try:
        info = os.stat(real)
    except FileNotFoundError:
        raise CaptureError(
            f"{where} is a symbolic link to {target!r}, which does not exist; nothing was "
            "captured. Remove the link, or save what it should name"
        ) from None
    if not stat.S_ISDIR(info.st_mode):
        _take_file(source, real, path, info)
        return
    identity = (info.st_dev, info.st_ino)
    if identity in above or root.startswith(real.rstrip(os.sep) + os.sep):
        raise CaptureError(
            f"{where} is a symbolic link to {target!r}, a directory that contains it, so a copy "
            "would never end; nothing was captured. Remove the link"
        )
    source.directories.append(path)
    _scan(source, real, path + "/", (*above, identity))


def _is_ours(path: str) -> bool:
    """Whether a name is Milepost's own and no part of what the user saved."""
    name = path.rpartition("/")[2]
    return name.startswith(_STAGING_PREFIX) or not (is_listed(path) or path == METADATA_NAME)


def _require_utf8(source: Source, path: str) -> None:
    if path.isascii():
        return
    try:
        path.encode()
    except UnicodeEncodeError:
        raise CaptureError(
            f"the name {os.fsencode(path)!r} in {source.directory} is not UTF-8, so no manifest "
            "can list it; nothing was captured. Rename it"
        ) from None
