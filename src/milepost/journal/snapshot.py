"""Snapshots: what a run amounted to at the end of one journal file.

A snapshot makes replay short and lets old journal files go. It is a single line in the form of
:mod:`.lines`, made from files that will not change any more, so it can be made by anybody at any
time, and a lost or damaged one costs nothing but a longer replay: the files since the snapshot
before it are kept too.
"""

from __future__ import annotations

import logging
import os
from typing import Final

import msgspec

from milepost.journal import chain, epochs, lines
from milepost.journal import experiment as experiments
from milepost.journal.chain import Mark
from milepost.journal.epochs import Segment
from milepost.journal.experiment import writer_version
from milepost.journal.image import RunImage
from milepost.journal.migrations import SNAPSHOT_MIGRATIONS, steps
from milepost.journal.records import SCHEMA, Record
from milepost.storage import posix

log = logging.getLogger("milepost.journal")

_KEPT: Final = 2


class Snapshot(Record, frozen=True, kw_only=True):
    """The state after the last record of one journal file.

    Attributes:
        schema: version of the records and of the image.
        uuid: the experiment's id.
        epoch: with ``segment``, the last file that is covered.
        length: how many bytes of it are; ``crc32`` is their CRC-32 in hex.
        image: the state.
    """

    schema: int
    uuid: str
    writer: str
    epoch: int
    segment: int
    length: int
    crc32: str
    image: RunImage

    @property
    def mark(self) -> Mark:
        """The end of what is covered."""
        return Mark(Segment(self.epoch, self.segment), self.length, self.crc32)


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(Snapshot).decode


def write(experiment_path: str, mark: Mark, image: RunImage) -> None:
    """Write the snapshot of what ends at ``mark``, atomically and durably.

    Raises:
        OSError: it could not be written; older snapshots are intact.
    """
    snapshot = Snapshot(
        at=image.changed,
        schema=SCHEMA,
        uuid=image.uuid,
        writer=writer_version(),
        epoch=mark.segment.epoch,
        segment=mark.segment.number,
        length=mark.length,
        crc32=mark.crc,
        image=image,
    )
    posix.durable_replace(
        _path(experiment_path, mark.segment), lines.make(image.seq, msgspec.json.encode(snapshot))
    )


def load(experiment_path: str, mark: Mark) -> RunImage | None:
    """Return the state at ``mark``, or None if there is no good snapshot of exactly that.

    Raises:
        JournalError: a newer version wrote it.
    """
    snapshot = read(experiment_path, mark.segment)
    if snapshot is None:
        return None
    if snapshot.mark != mark:
        path = _path(experiment_path, mark.segment)
        log.warning("%s does not belong to this journal; ignoring it", path)
        return None
    return snapshot.image


def read(experiment_path: str, segment: Segment) -> Snapshot | None:
    """Return the snapshot whose last file is ``segment``; None if there is no good one.

    Raises:
        JournalError: a newer version wrote it.
    """
    path = _path(experiment_path, segment)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    seq = lines.seq_of(data)
    if seq is None:
        log.warning("%s is damaged; reading the journal since the snapshot before it", path)
        return None
    forward = steps(path, data, current=SCHEMA, migrations=SNAPSHOT_MIGRATIONS)
    try:
        snapshot = _DECODE(forward(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read by this version (%s); reading the journal", path, error)
        return None
    if snapshot.image.seq != seq:
        log.warning("%s does not fit its own check; ignoring it", path)
        return None
    return snapshot


def prune(experiment_path: str, needed_from: int) -> list[str]:
    """Remove snapshots but for the newest two, and the journal files that the older one covers.

    Args:
        experiment_path: the experiment's directory.
        needed_from: keep files that hold this record or a later one.

    Returns:
        The removed paths.
    """
    kept = epochs.snapshots(experiment_path)[-_KEPT:]
    if len(kept) < _KEPT:
        return []
    removed = [
        os.path.join(epochs.journal_directory(experiment_path), segment.name)
        for segment in _ended_before(experiment_path, needed_from)
        if segment <= kept[0]
    ]
    for old in epochs.snapshots(experiment_path)[:-_KEPT]:
        removed.append(_path(experiment_path, old))
    for path in removed:
        posix.unlink(path)
    return removed


def _ended_before(experiment_path: str, number: int) -> list[Segment]:
    """The journal files whose records all have lower numbers, oldest first."""
    segments = epochs.segments(experiment_path)
    for position in reversed(range(len(segments))):
        first = chain.first_number(experiment_path, segments[position])
        if first is not None and first <= number:
            return segments[:position]
    return []


def _path(experiment_path: str, segment: Segment) -> str:
    return os.path.join(experiment_path, experiments.HOME, segment.snapshot_name)
