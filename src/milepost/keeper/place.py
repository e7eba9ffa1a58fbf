"""Where captured checkpoints wait for their commit: on the file system they come from.

A capture that moves no bytes needs a staging place on the source's own file system. There are
three, tried in this order: the node root, the storage root, and a directory beside the source.
Whether two paths share a file system is found by trying (``EXDEV``), since mounts can lie about
their device number. Each place but the first is recorded in the node root before it is used, so
that recovery finds what is in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from milepost.errors import StorageError
from milepost.keeper.intent import IntentName, parse_name
from milepost.process import is_alive
from milepost.storage import names, posix
from milepost.storage.node import node_root

__all__ = ["Places", "captures", "drafts", "ensure_place", "node_root", "prune", "staging_places"]

_STAGING = "staging"
_SCRATCH = "scratch"
DRAFT_SUFFIX = ".draft-"
PLACES = 3
_RECORDS = "places.jsonl"
_TRIES = 5


class _Record(msgspec.Struct, frozen=True):
    path: str


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(_Record).decode


def beside(directory: str) -> str:
    """The name of this user's staging place in ``directory``."""
    return os.path.join(directory, f".milepost-staging-{os.getuid()}")


def staging_places(root: str, storage_root: str | None = None) -> list[str]:
    """All places where intents may be: in the node root, the storage root, and those recorded."""
    places = [os.path.join(root, _STAGING)]
    if storage_root is not None:
        places.append(beside(storage_root))
    for path in _recorded(root):
        if path not in places:
            places.append(path)
    return places


def captures(places: list[str], uuid: str) -> Iterator[tuple[str, IntentName]]:
    """Every capture of an experiment in these places: its path without suffix, and its name."""
    for place in places:
        own = os.path.join(place, uuid)
        seen = set()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in sorted(os.listdir(own)):
                stem = os.path.splitext(entry)[0]
                name = parse_name(stem)
                if name is not None and stem not in seen:
                    seen.add(stem)
                    yield os.path.join(own, stem), name


def drafts(places: list[str], uuid: str) -> Iterator[str]:
    """Files that keepers of an experiment made in staging and that a dead one left behind."""
    for place in places:
        own = os.path.join(place, uuid)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in sorted(os.listdir(own)):
                is_draft = os.path.splitext(entry)[1].startswith(DRAFT_SUFFIX)
                if is_draft or names.is_leftover(entry):
                    yield os.path.join(own, entry)


def abandoned_scratch(places: list[str], uuid: str) -> Iterator[str]:
    """Directories of :meth:`Places.scratch` whose process has ended."""
    for place in places:
        own = os.path.join(place, uuid)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(own):
                parts = name.split("-")
                if (
                    parts[0] == _SCRATCH
                    and len(parts) == 4
                    and not is_alive(int(parts[1]), int(parts[2]))
                ):
                    yield os.path.join(own, name)


def ensure_place(root: str, place: str) -> None:
    """Create a staging place outside of the node root, and record it first.

    Raises:
        OSError: it cannot be created or is not ours.
    """
    if place != os.path.join(root, _STAGING):
        with _records_locked(root):
            if place not in _recorded(root):
                fd = os.open(
                    os.path.join(root, _RECORDS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
                )
                try:
                    # The line break before it keeps it whole where a crash tore the line above.
                    posix.append(fd, b"\n" + msgspec.json.encode(_Record(place)) + b"\n")
                finally:
                    os.close(fd)
            _make_private(place)
    else:
        _make_private(place)


def prune(root: str, places: list[str], uuid: str) -> None:
    """Remove what is empty: an experiment's directory in each place, and the place itself."""
    with _records_locked(root):
        for place in places:
            _remove_if_empty(os.path.join(place, uuid))
            _remove_if_empty(place)
        recorded = _recorded(root)
        left = [path for path in recorded if os.path.isdir(path)]
        path = os.path.join(root, _RECORDS)
        if not left:
            if os.path.exists(path):  # maybe without a whole record: who began one was killed
                posix.unlink(path)
            return
        if left == recorded:
            return
        lines = b"".join(msgspec.json.encode(_Record(place)) + b"\n" for place in left)
        posix.durable_replace(path, lines, 0o600)


class Places:
    """The staging places of one experiment, for a worker that captures.

    Args:
        root: the node root.
        storage_root: the directory that holds the experiments.
        uuid: the experiment's id.
    """

    def __init__(self, root: str, storage_root: str, uuid: str) -> None:
        self._root = root
        self._uuid = uuid
        self.first = os.path.join(root, _STAGING)
        self._second = beside(storage_root)

    def for_source(self, directory: str, number: int) -> str:
        """The place to try first (0), second or third for a source directory."""
        if number == 0:
            return self.first
        if number == 1:
            return self._second
        return beside(os.path.dirname(os.path.realpath(directory)))

    def scratch(self, pid: int, started: int) -> str:
        """Create an empty directory in the node root's staging, swept when its process is dead.

        Raises:
            StorageError: the node root's own staging cannot be used.
        """
        own = os.path.join(self.first, self._uuid)
        path = os.path.join(own, f"{_SCRATCH}-{pid}-{started}-{os.urandom(6).hex()}")
        try:
            posix.mkdir(path, 0o700)
        except FileNotFoundError:
            self.prepare(self.first)
            posix.mkdir(path, 0o700)
        except OSError as error:
            raise _unusable(self.first, error) from error
        return path

    def base(self, place: str, name: IntentName) -> str:
        """The path of a capture in a place, without suffix."""
        return os.path.join(place, self._uuid, str(name))

    def prepare(self, place: str) -> None:
        """Create a place, recorded first, and the experiment's directory in it.

        Raises:
            StorageError: the node root's own staging cannot be used.
            OSError: another place cannot be used.
        """
        try:
            self._create_parents(place, os.path.join(place, self._uuid))
        except OSError as error:
            raise self.explain(place, error) from error

    def explain(self, place: str, error: OSError) -> OSError:
        """The error to raise when a place cannot be used."""
        return _unusable(place, error) if place == self.first else error

    def _create_parents(self, place: str, own: str) -> None:
        for left in reversed(range(_TRIES)):  # a keeper may be removing empty ones right now
            ensure_place(self._root, place)
            try:
                posix.mkdir(own, 0o700)
            except FileExistsError:
                return
            except FileNotFoundError:
                if not left:
                    raise
            else:
                return


def _unusable(place: str, error: OSError) -> StorageError:
    return StorageError(
        error.errno,
        f"the staging place {place} cannot be used: {error.strerror}. Checkpoints are captured "
        "there before they are committed; nothing was captured. Make it writable, or set "
        "MILEPOST_NODE_ROOT to a directory of your own on a local disk",
    )


def _make_private(place: str) -> None:
    with contextlib.suppress(FileExistsError):
        posix.mkdir(place, 0o700)
    info = os.lstat(place)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise PermissionError(
            errno.EPERM,
            "not a private directory of this user, so checkpoints are not staged there",
            place,
        )


def _remove_if_empty(path: str) -> None:
    try:
        posix.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EEXIST):
            raise


def _recorded(root: str) -> list[str]:
    try:
        with open(os.path.join(root, _RECORDS), "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    places = []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):  # the last line may be torn by a crash
            places.append(_DECODE(line).path)
    return places


@contextlib.contextmanager
def _records_locked(root: str) -> Iterator[None]:
    """Hold the records: so that a place is never pruned between its record and its creation."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
