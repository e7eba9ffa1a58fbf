"""What a worker leaves in staging: the record of a capture, and what was captured.

A capture has a name, ``<trial_id>.<attempt>.<index>.<rank>.<pid>-<started>``, after the process
that captures. In a staging place lie, under that name with a suffix:

``.intent``
    written before any byte moves: one line of JSON, the :class:`Intent`.
``.files/``
    the captured tree.
``.captured``
    the intent under its new name once the tree is complete, with a second line, the
    :class:`FileList`. From then on the checkpoint will be committed, whoever dies.

A small checkpoint has no ``.files``: the bytes of its files follow the second line, because
creating files is what costs time. The format is described in ``docs/format.md``.
"""

from __future__ import annotations

import os
from typing import Annotated, BinaryIO, Final, NamedTuple

import msgspec

from milepost.checkpoint.manifest import DirName, checkpoint_name
from milepost.checkpoint.validation import Task
from milepost.storage import posix

INTENT_SUFFIX = ".intent"
CAPTURED_SUFFIX = ".captured"
FILES_SUFFIX = ".files"
FORMAT = 1

#: A path below a directory, which never leads out of it.
InnerPath = (
    Annotated[str, msgspec.Meta(pattern=r"^(?!\.\.?(/|\Z))[^/\0]+(/(?!\.\.?(/|\Z))[^/\0]+)*\Z")]
    | msgspec.UnsetType
)

_MODE = 0o600


class ExperimentRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which experiment a capture belongs to.

    A copied experiment has another ``inode``, so it never adopts the captures of its original.

    Attributes:
        path: the experiment directory, absolute, as seen by the process that wrote this.
        device: ``st_dev`` of that directory.
        inode: ``st_ino`` of that directory.
        uuid: the experiment's own id, from ``.milepost/experiment.json``.
    """

    path: str
    device: int
    inode: int
    uuid: str

    def is_same(self, other: ExperimentRef) -> bool:
        """Whether both are one directory, under whatever path it was seen."""
        mine = (self.uuid, self.device, self.inode)
        return mine == (other.uuid, other.device, other.inode)

    def is_there(self) -> bool:
        """Whether the directory is still where it was."""
        try:
            info = os.stat(self.path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == (self.device, self.inode)


class CapturedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One captured regular file, as it was when it was captured.

    Attributes:
        path: relative to the tree, with ``/``.
        size: bytes.
        mtime_ns: modification time of a leased file. One whose time or size differs later was
            written to after its lease was lost, and must not be committed.
        way: how it was captured: "moved", "leased", "reflink" or "copied".
        executable: whether its owner may execute it; for files that are part of the record.
    """

    path: str
    size: int
    way: str
    mtime_ns: int = 0
    executable: bool = False


class FileList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was captured.

    Attributes:
        files: every regular file.
        at: when, in seconds since the epoch.
        packed: whether the bytes of the files follow in the record, in this order.
        directories: for a packed capture, all directories, parents first.
        links: for a packed capture, all symbolic links and what they read.
    """

    files: tuple[CapturedFile, ...]
    at: float
    packed: bool = False
    directories: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is needed to commit a captured checkpoint without its worker or driver.

    Attributes:
        experiment: where the checkpoint belongs.
        trial_id: the trial's id.
        trial_dir: the trial's directory, relative to the experiment.
        attempt: how often the trial had been started, from 0; indices belong to one attempt.
        attempt_id: a random id of this attempt; tells a lost reply from a conflict.
        index: the checkpoint's number.
        rank: which worker of the trial captured it.
        ranks: of the workers whose captures make up the checkpoint; the commit needs each.
        iteration: ``training_iteration`` of the row.
        row: the whole result row, encoded by :mod:`milepost.storage.codec`.
        objects: pickled values that row and validation refer to, by digest.
        validation: how the checkpoint is to be validated; unset if it is not.
        parent: id of the checkpoint that this attempt started from or committed last, or None.
        pid: the capturing process; an incomplete capture is swept only when it has ended.
        started: start time of that process in clock ticks since boot, against reuse of its id.
        boot: which boot of the machine this was; captured files are not flushed, so they are not
            trusted after another one.
        format: version of this record.
        dir_name: of the checkpoint's directory; unset for ``checkpoint_`` and its number.
        parent_dir_name: of the parent's, if that is of the same trial.
        came_from: of a tree that was moved and is nobody else's: where it was, relative to the
            trial's directory. It is put back there if it cannot be committed.
    """

    experiment: ExperimentRef
    trial_id: str
    trial_dir: str
    attempt: int
    attempt_id: str
    index: int
    rank: int = 0
    ranks: tuple[int, ...] = (0,)
    iteration: int = 0
    row: msgspec.Raw = msgspec.Raw(b"{}")
    objects: dict[str, bytes] = {}
    validation: Task | msgspec.UnsetType = msgspec.UNSET
    parent: str | None = None
    pid: int = 0
    started: int = 0
    boot: str = ""
    format: int = FORMAT
    dir_name: DirName = msgspec.UNSET
    parent_dir_name: DirName = msgspec.UNSET
    came_from: InnerPath = msgspec.UNSET

    @property
    def directory(self) -> str:
        """The name of the checkpoint's directory in the trial's."""
        return checkpoint_name(self.index, self.dir_name)

    @property
    def name(self) -> IntentName:
        """The name of the capture."""
        return IntentName(
            self.trial_id, self.attempt, self.index, self.rank, self.pid, self.started
        )


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE_INTENT: Final = msgspec.json.Decoder(Intent).decode
_DECODE_FILES: Final = msgspec.json.Decoder(FileList).decode


class IntentName(msgspec.Struct, frozen=True):
    """What the name of a capture says."""

    trial_id: str
    attempt: int
    index: int
    rank: int
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.trial_id}.{self.attempt}.{self.index}.{self.rank}.{self.pid}-{self.started}"


def parse_name(name: str) -> IntentName | None:
    """Undo ``str(IntentName(...))``; None for a name that is no capture's."""
    trial_id, *parts = name.rsplit(".", 4)
    if len(parts) != 4:
        return None
    numbers = [*parts[:3], *parts[3].split("-")]
    if len(numbers) != 5 or not all(number.isdecimal() for number in numbers):
        return None
    return IntentName(trial_id, *map(int, numbers))


class Staged(NamedTuple):
    """A capture as found in a staging place.

    Attributes:
        base: its path without suffix.
        intent: what was to be captured.
        captured: what was, or None while the capture is not complete.
        offset: where the packed bytes begin in the record.
    """

    base: str
    intent: Intent
    captured: FileList | None
    offset: int = 0

    @property
    def tree(self) -> str:
        """The directory of the captured tree."""
        return self.base + FILES_SUFFIX

    def open_packed(self) -> BinaryIO:
        """Open the record where the bytes of its files begin."""
        file = open(self.base + CAPTURED_SUFFIX, "rb")  # noqa: SIM115 - the caller closes it
        file.seek(self.offset)
        return file


def write(base: str, intent: Intent) -> None:
    """Begin a capture: write its record."""
    posix.write_new(base + INTENT_SUFFIX, msgspec.json.encode(intent) + b"\n", _MODE)


def complete(base: str, captured: FileList) -> None:
    """Mark a capture complete: from now on it will be committed."""
    fd = os.open(base + INTENT_SUFFIX, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        posix.append(fd, msgspec.json.encode(captured) + b"\n")
    finally:
        os.close(fd)
    posix.rename(base + INTENT_SUFFIX, base + CAPTURED_SUFFIX)


def write_complete(
    base: str, intent: Intent, captured: FileList, contents: bytes | memoryview = b""
) -> None:
    """Write the whole record of a complete capture, with the bytes of its files if it is packed."""
    fd = posix.create_new(base + INTENT_SUFFIX, _MODE)
    try:
        lines = (msgspec.json.encode(intent), msgspec.json.encode(captured), b"")
        posix.append(fd, b"\n".join(lines))
        if contents:
            posix.append(fd, contents)
    finally:
        os.close(fd)
    posix.rename(base + INTENT_SUFFIX, base + CAPTURED_SUFFIX)


def read(base: str) -> Staged | None:
    """Read a capture's record; None if there is none that can be read.

    A process that was killed while it wrote its intent leaves one that cannot be read, and had not
    captured a byte then.
    """
    try:
        with open(base + CAPTURED_SUFFIX, "rb") as file:
            first, second = file.readline(), file.readline()
            intent = _DECODE_INTENT(first)
            try:
                captured = _DECODE_FILES(second)
            except msgspec.DecodeError:  # a power loss took what was not flushed
                return Staged(base, intent, None)
            return Staged(base, intent, captured, file.tell())
    except FileNotFoundError:
        pass
    except msgspec.DecodeError:
        return None
    try:
        with open(base + INTENT_SUFFIX, "rb") as file:
            return Staged(base, _DECODE_INTENT(file.readline()), None)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remove(base: str) -> None:
    """Remove a capture: its tree first, so that the record tells of whatever is left.

    Raises:
        OSError: not all of it could be removed.
    """
    posix.remove_tree(base + FILES_SUFFIX)
    posix.remove_tree(base + INTENT_SUFFIX)
    posix.remove_tree(base + CAPTURED_SUFFIX)
