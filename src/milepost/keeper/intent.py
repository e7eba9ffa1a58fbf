"""What a worker writes before and after it captures a checkpoint.

An *intent* is a directory ``<trial_id>.<attempt>.<index>.<rank>.<pid>-<started>`` in a staging
place, named after the process that captures. It holds ``intent.json``, written before any byte
moves, and ``files/``, the captured tree. When the tree is complete, ``files.json`` is written,
which lists what was captured, and ``intent.json`` is renamed to ``captured.json``: from then on
the checkpoint will be committed, whoever dies. The format is described in ``docs/format.md``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from milepost.storage import posix

INTENT_NAME = "intent.json"
CAPTURED_NAME = "captured.json"
LIST_NAME = "files.json"
FILES_NAME = "files"
FORMAT = 1

_T = TypeVar("_T")


class ExperimentRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which experiment an intent belongs to.

    A copied experiment has another ``inode``, so it never adopts the intents of its original.

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


class CapturedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One captured regular file, as it was when it was captured.

    Attributes:
        path: relative to ``files/``, with ``/``.
        size: bytes.
        mtime_ns: modification time. A leased file whose time or size differs later was written to
            after its lease was lost, and must not be committed.
        way: how it was captured: "moved", "leased", "reflink" or "copied".
    """

    path: str
    size: int
    mtime_ns: int
    way: str


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``files.json``: every captured regular file, and when it was captured."""

    files: tuple[CapturedFile, ...]
    at: float
    format: int = FORMAT


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is needed to commit a captured checkpoint without its worker or driver.

    Attributes:
        experiment: where the checkpoint belongs.
        trial_id: the trial's id.
        trial_dir: the trial's directory, relative to the experiment.
        attempt: how often the trial had been started, from 0; indices belong to one attempt.
        attempt_id: a random id of this attempt; tells a lost reply from a conflict.
        index: the checkpoint's number; its directory is ``checkpoint_%06d``.
        rank: which worker of the trial captured it.
        world_size: number of workers of the trial; the commit needs a part from each that
            took part.
        iteration: ``training_iteration`` of the row.
        row: the whole result row, encoded by :mod:`milepost.storage.codec`.
        objects: pickled values that the row refers to, by digest.
        parent: id of the checkpoint that this attempt started from or committed last, or None.
        pid: the capturing process; an incomplete intent is swept only when it has ended.
        started: start time of that process in clock ticks since boot, against reuse of its id.
        boot: which boot of the machine this was; captured files are not flushed, so they are not
            trusted after another one.
        format: version of this record.
    """

    experiment: ExperimentRef
    trial_id: str
    trial_dir: str
    attempt: int
    attempt_id: str
    index: int
    rank: int = 0
    world_size: int = 1
    iteration: int = 0
    row: msgspec.Raw = msgspec.Raw(b"{}")
    objects: dict[str, bytes] = {}
    parent: str | None = None
    pid: int = 0
    started: int = 0
    boot: str = ""
    format: int = FORMAT


class Staged(NamedTuple):
    """An intent as found in a staging place.

    Attributes:
        directory: the intent's directory.
        intent: what was to be captured.
        captured: the list of files, or None while the capture is not complete.
    """

    directory: str
    intent: Intent
    captured: FileList | None

    @property
    def files(self) -> str:
        """The directory of the captured tree."""
        return os.path.join(self.directory, FILES_NAME)


@dataclass(frozen=True, slots=True)
class IntentName:
    """What the name of an intent's directory says."""

    trial_id: str
    attempt: int
    index: int
    rank: int
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.trial_id}.{self.attempt}.{self.index}.{self.rank}.{self.pid}-{self.started}"


def parse_name(name: str) -> IntentName | None:
    """Undo ``str(IntentName(...))``; None for a name that is no intent's."""
    trial_id, *parts = name.rsplit(".", 4)
    if len(parts) != 4:
        return None
    numbers = [*parts[:3], *parts[3].split("-")]
    if len(numbers) != 5 or not all(number.isdecimal() for number in numbers):
        return None
    return IntentName(trial_id, *map(int, numbers))


def write(directory: str, intent: Intent) -> None:
    """Write ``intent.json`` into a fresh intent directory."""
    posix.write_new(os.path.join(directory, INTENT_NAME), msgspec.json.encode(intent), 0o600)


def complete(directory: str, captured: FileList) -> None:
    """Mark an intent complete: from now on it will be committed."""
    posix.write_new(os.path.join(directory, LIST_NAME), msgspec.json.encode(captured), 0o600)
    posix.rename(os.path.join(directory, INTENT_NAME), os.path.join(directory, CAPTURED_NAME))


def read(directory: str) -> Staged | None:
    """Read an intent; None for a directory that holds none that can be read.

    A process that was killed while it wrote ``intent.json`` leaves one that cannot be read, and
    had not captured a byte then.
    """
    try:
        intent = _decode(os.path.join(directory, CAPTURED_NAME), Intent)
        if intent is not None:
            captured = _decode(os.path.join(directory, LIST_NAME), FileList)
            return Staged(directory, intent, captured)
        intent = _decode(os.path.join(directory, INTENT_NAME), Intent)
    except msgspec.DecodeError:
        return None
    return None if intent is None else Staged(directory, intent, None)


def _decode(path: str, kind: type[_T]) -> _T | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
