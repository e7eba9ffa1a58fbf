"""What a worker writes before and after it captures a checkpoint.

An *intent* is a directory ``<trial_id>.<attempt>.<index>.<rank>`` in a staging place. It holds
``intent.json``, written before any byte moves, and ``files/``, the captured tree. When the tree is
complete, ``intent.json`` is renamed over to ``captured.json`` with the captured files listed: from
then on the checkpoint will be committed, whoever dies. The format is described in
``docs/format.md``.
"""

from __future__ import annotations

import msgspec

INTENT_NAME = "intent.json"
CAPTURED_NAME = "captured.json"
FILES_NAME = "files"
FORMAT = 1


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


class CapturedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One captured regular file, as it was when it was captured.

    Attributes:
        path: relative to ``files/``, with ``/``.
        size: bytes.
        mtime_ns: modification time. A leased file whose time or size differs later was written to
            after its lease was lost, and must not be committed.
        way: how it was captured.
    """

    path: str
    size: int
    mtime_ns: int
    way: str  # "moved" | "reflink" | "leased" | "copied"


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
        world_size: number of workers of the trial; the commit needs a part from each that took part.
        iteration: ``training_iteration`` of the row.
        row: the whole result row, encoded by :mod:`milepost.storage.codec`.
        objects: pickled values that the row refers to, by digest.
        parent: id of the checkpoint that this attempt started from or committed last, or None.
        pid: the capturing process; an incomplete intent is swept only when it has ended.
        started: start time of that process in clock ticks since boot, against reuse of its id.
        format: version of this record.
        files: the captured files; empty until the capture is complete.
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
    format: int = FORMAT
    files: tuple[CapturedFile, ...] = ()
