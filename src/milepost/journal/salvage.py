"""What can be read of a damaged journal: every record that is whole, wherever it stands.

Nothing here follows the chain of files, because a link of it may be what is damaged. What a
driver wrote after it had been replaced is told by its numbers: the file of its successor has them
too, and that one counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from milepost.journal import epochs, mending, snapshot
from milepost.journal.chain import START, Mark
from milepost.journal.epochs import Segment
from milepost.journal.experiment import Experiment
from milepost.journal.image import RunImage
from milepost.journal.migrations import decoder
from milepost.journal.records import SCHEMA, AnyRecord, Continued, Opened

log = logging.getLogger("milepost.journal")

Decode = Callable[[bytes], AnyRecord]
_CURRENT: Final = b'{"schema":%d}' % SCHEMA


class Salvage(NamedTuple):
    """What is left of a journal.

    Attributes:
        base: the state of the newest good snapshot; an empty one without any.
        mark: what that snapshot covers; :data:`~milepost.journal.chain.START` without any.
        records: all whole records with a higher number than the base has, by number.
        mended: how many of all records had a flipped bit, which was put right.
        lost: how many numbers are missing.
        damaged: where something could not be read: file and byte.
    """

    base: RunImage
    mark: Mark
    records: list[tuple[int, AnyRecord]]
    mended: int
    lost: int
    damaged: list[str]


class _File(NamedTuple):
    """The readable part of one file: what its first record and all others are."""

    segment: Segment
    records: list[tuple[int, AnyRecord]]


def read(experiment: Experiment) -> Salvage:
    """Read what can be read; nothing is changed.

    Raises:
        JournalError: a newer version wrote some of it.
        JournalCorruptError: a whole record is not understood, so this is not damage.
        OSError: a file cannot be read.
    """
    reader = _Reading(experiment)
    files = reader.files()
    base, mark = _base(experiment, files)
    limit: int | None = None
    records: list[tuple[int, AnyRecord]] = []
    for file in reversed(files):
        counting = [pair for pair in file.records if limit is None or pair[0] < limit]
        records = counting + records
        limit = file.records[0][0]
    records = [pair for pair in records if pair[0] > base.seq]
    last = records[-1][0] if records else base.seq
    return Salvage(
        base, mark, records, reader.mended, last - base.seq - len(records), reader.damaged
    )


class _Reading:
    """Reads the files of a journal one after the other."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._directory = epochs.journal_directory(experiment.path)
        self._decode: Decode = decoder("", _CURRENT)
        self.mended = 0
        self.damaged: list[str] = []

    def files(self) -> list[_File]:
        """The files in which anything can be read, oldest first."""
        if not os.path.isdir(self._directory):
            return []
        found = [self._read(segment) for segment in epochs.segments(self._experiment.path)]
        return [file for file in found if file is not None and file.records]

    def _read(self, segment: Segment) -> _File | None:
        path = os.path.join(self._directory, segment.name)
        with open(path, "rb") as file:
            pieces = list(mending.pieces(file.read()))
        last = 0
        records: list[tuple[int, AnyRecord]] = []
        for piece in pieces:
            if piece.line is None or piece.seq <= last:
                self.damaged.append(f"{segment.name}, byte {piece.offset}")
                continue
            if piece.offset == 0:
                self._decode = decoder(path, piece.line)
            record = self._decode(piece.line)
            if isinstance(record, Opened | Continued) and record.uuid != self._experiment.uuid:
                log.warning("%s belongs to experiment %s; ignoring it", path, record.uuid)
                return None
            last = piece.seq
            self.mended += piece.mended
            records.append((piece.seq, record))
        return _File(segment, records)


def _base(experiment: Experiment, files: list[_File]) -> tuple[RunImage, Mark]:
    """The newest snapshot of what counts."""
    for covered in reversed(epochs.snapshots(experiment.path)):
        found = snapshot.read(experiment.path, covered)
        if found is None or found.uuid != experiment.uuid:
            continue
        after = [file for file in files if file.segment > covered]
        if any(file.records[0][0] <= found.image.seq for file in after):
            continue  # of bytes that a driver wrote after it had been replaced
        return found.image, found.mark
    return RunImage(), START
