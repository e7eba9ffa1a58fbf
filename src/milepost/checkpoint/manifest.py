"""The manifest: the file whose presence makes a directory a committed checkpoint.

``.milepost.json`` lists every file of the checkpoint with size and digest, and carries the result
row it belongs to, so that a directory can be verified and adopted without anything else.
``docs/format.md`` describes the bytes.
"""

from __future__ import annotations

import os
import zlib
from typing import Annotated, Final

import msgspec

from milepost.checkpoint.validation import Task
from milepost.errors import CheckpointError, CorruptCheckpointError

MANIFEST_NAME = ".milepost.json"
METADATA_NAME = ".metadata.json"
FORMAT = 1

#: The name of a checkpoint's directory where it is not ``checkpoint_`` and its number. What is read
#: from a disk is held to this: a path that is put together with it stays in the trial's directory.
DirName = Annotated[str, msgspec.Meta(pattern=r"^[^./\0][^/\0]*\Z")] | msgspec.UnsetType

_CHECK_KEY = b',"check":"'
_CHECK_BYTES = len(_CHECK_KEY) + 8 + len(b'"}\n')


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file or symbolic link of a checkpoint.

    Attributes:
        path: relative to the checkpoint, with ``/``.
        size: bytes.
        xxh3: XXH3-128 of the bytes, 32 hex digits.
        mode: permission bits that ``to_directory`` restores.
        link: what a symbolic link reads; None for a regular file.
    """

    path: str
    size: int = 0
    xxh3: str = ""
    mode: int = 0o644
    link: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Which files one rank of a trial contributed."""

    rank: int
    paths: list[str]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Wall-clock seconds since the epoch, for people and for policies; order comes from indices."""

    captured: float = 0.0
    committed: float = 0.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a committed checkpoint is.

    Attributes:
        format: version of these fields.
        id: names this checkpoint for ever; see :func:`checkpoint_id`.
        attempt: how often the trial had been started before, from 0.
        run: the experiment's uuid.
        trial: the trial's id.
        index: the checkpoint's number, never used twice within a trial.
        iteration: ``training_iteration`` of the row.
        metrics: the whole result row, as :mod:`milepost.storage.codec` encodes it.
        files: all regular files and links, sorted by path.
        directories: directories that hold no file, sorted.
        parts: what each rank contributed; empty for a trial of one worker.
        parent: id of the checkpoint that the attempt started from or committed before, or None.
        times: when it was captured and committed.
        validation: how it is to be validated; not there if it is not.
        writer: which version of Milepost wrote it.
        dir_name: of its directory; unset for ``checkpoint_`` and its number.
    """

    format: int = FORMAT
    id: str
    attempt: int = 0
    run: str = ""
    trial: str
    index: int
    iteration: int = 0
    metrics: msgspec.Raw = msgspec.Raw(b"{}")
    files: list[FileEntry] = []
    directories: list[str] = []
    parts: list[Part] = []
    parent: str | None = None
    times: Times = Times()
    validation: Task | msgspec.UnsetType = msgspec.UNSET
    writer: str = ""
    dir_name: DirName = msgspec.UNSET

    @property
    def directory(self) -> str:
        """The name of its directory in the trial's."""
        return checkpoint_name(self.index, self.dir_name)

    @property
    def task(self) -> Task | None:
        """How it is to be validated, if it is."""
        return None if isinstance(self.validation, msgspec.UnsetType) else self.validation

    @property
    def nbytes(self) -> int:
        """Bytes of all listed files together."""
        return sum(entry.size for entry in self.files)


def checkpoint_name(index: int, dir_name: DirName = msgspec.UNSET) -> str:
    """Return the directory name of a checkpoint: ``checkpoint_000012``, or its own."""
    return f"checkpoint_{index:06d}" if dir_name is msgspec.UNSET else dir_name


def own_name(index: int, directory: str) -> DirName:
    """Return the name of a checkpoint's directory; unset for ``checkpoint_`` and its number."""
    name = os.path.basename(directory)
    return msgspec.UNSET if name == checkpoint_name(index) else name


def checkpoint_id(attempt_id: str, index: int) -> str:
    """Return the id of a checkpoint.

    It depends on nothing but the attempt and the index, so that whoever repeats a commit whose
    reply was lost recognises its own work.
    """
    return f"{attempt_id}-{index}"


def to_bytes(manifest: Manifest) -> bytes:
    """Encode a manifest as one line of JSON that carries a CRC-32 of itself."""
    body = msgspec.json.encode(manifest)
    return b'%b%b%08x"}\n' % (body[:-1], _CHECK_KEY, zlib.crc32(body))


def from_bytes(data: bytes, where: str = MANIFEST_NAME) -> Manifest:
    """Decode and check a manifest.

    Args:
        data: the whole file.
        where: its path, for errors.

    Raises:
        CorruptCheckpointError: it is torn, damaged, or lists a path outside of the checkpoint.
        CheckpointError: it is of a newer format than this version reads.
    """
    body, check = data[:-_CHECK_BYTES] + b"}", data[-_CHECK_BYTES:]
    if check != b'%b%08x"}\n' % (_CHECK_KEY, zlib.crc32(body)):
        raise CorruptCheckpointError(
            f"manifest {where} is damaged: its {len(data)} bytes do not match their check sum. It "
            "was cut, altered or edited by hand; without it the checkpoint's files are not verified"
        )
    try:
        version = _DECODE_VERSION(body).format
        if version > FORMAT:
            raise CheckpointError(
                f"manifest {where} has format {version}, this version of Milepost reads up to "
                f"{FORMAT}; use the version that wrote it or a newer one. Nothing was changed"
            )
        manifest = _DECODE(body)
    except msgspec.DecodeError as error:
        raise CorruptCheckpointError(f"manifest {where} cannot be read: {error}") from error
    _check_paths(manifest, where)
    return manifest


def read(directory: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a committed checkpoint.

    Raises:
        FileNotFoundError: the directory has none, so it is not a committed checkpoint.
        CorruptCheckpointError: as :func:`from_bytes`.
        CheckpointError: as :func:`from_bytes`.
    """
    path = os.path.join(directory, MANIFEST_NAME)
    with open(path, "rb") as file:
        return from_bytes(file.read(), path)


def link_stays_inside(path: str, target: str) -> bool:
    """Tell whether a symbolic link at ``path`` can only lead to places inside the checkpoint.

    Steps up are accepted at the front of ``target`` only: after a name they could follow another
    link first, and lead anywhere.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return climbs <= path.count("/") and ".." not in parts[climbs:]


class _Versioned(msgspec.Struct):
    format: int


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(Manifest).decode
_DECODE_VERSION: Final = msgspec.json.Decoder(_Versioned).decode


def _check_paths(manifest: Manifest, where: str) -> None:
    """Refuse a manifest by which a reader would touch anything outside of its directory."""
    links = {entry.path for entry in manifest.files if entry.link is not None}
    seen: set[str] = set()
    for path in [entry.path for entry in manifest.files] + manifest.directories:
        parts = path.split("/")
        if "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise CorruptCheckpointError(
                f"manifest {where} lists {path!r}, which is not a path inside the checkpoint; "
                "nothing was read or written there"
            )
        if path in seen or path == MANIFEST_NAME:
            raise CorruptCheckpointError(f"manifest {where} must not list {path!r} (again)")
        if links and any("/".join(parts[:depth]) in links for depth in range(1, len(parts))):
            raise CorruptCheckpointError(
                f"manifest {where} lists {path!r} behind a symbolic link of the same checkpoint"
            )
        seen.add(path)
    for entry in manifest.files:
        if entry.link is not None and not link_stays_inside(entry.path, entry.link):
            raise CorruptCheckpointError(
                f"manifest {where} lists the link {entry.path!r} to {entry.link!r}, which leads "
                "out of the checkpoint; nothing was read or written there"
            )
