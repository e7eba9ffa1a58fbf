"""Making a damaged journal whole again, by the driver that takes the experiment over.

What :mod:`.rebuild` puts together is written as one more file of the journal, which stands for all
files before it. It appears at once, under its final name, so at every moment the journal is either
as damaged as it was or repaired. The damaged files are given another name before, and never
deleted.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Final

import msgspec

from milepost.errors import JournalCorruptError
from milepost.journal import chain, epochs, lines, rebuild, replay
from milepost.journal.chain import Mark
from milepost.journal.epochs import Segment
from milepost.journal.experiment import Experiment, writer_version
from milepost.journal.image import RunImage
from milepost.journal.objects import Objects
from milepost.journal.records import SCHEMA, AnyRecord, Continued
from milepost.storage import names, posix

log = logging.getLogger("milepost.journal")

_ENCODE: Final = msgspec.json.Encoder().encode
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)


def make_whole(experiment: Experiment, before: Segment) -> RunImage:
    """Return the state of the run, after its journal was repaired if it had to be.

    Two things are found and put right, each with a line in the log: damage, by the checks of lines
    and files; and an end that is missing, by what the trials' files have beyond it.

    *After a crash*: the journal is as it was, or repaired.

    Args:
        experiment: held by the caller, who has begun the file ``before``, so that nobody else
            writes any more.
        before: the caller's own file.

    Raises:
        JournalError: a newer version wrote the journal.
        JournalCorruptError: the journal holds whole records that are not understood.
        FileExistsError: a driver that had been replaced began a file this very moment.
        OSError: something cannot be read or written.
    """
    try:
        state = replay.image(experiment.path, before)
    except JournalCorruptError as error:
        _rewrite(experiment, before, error)
    else:
        seq = state.seq
        found = rebuild.missing(experiment, state, Objects(experiment.path).put)
        if not found:
            return state
        _publish(experiment, before, _end(experiment, before), seq, found)
        log.error(
            "The end of the journal of %s is missing: it holds %d records, but the trials' files "
            "tell of %d more, which were added to it.",
            experiment.path,
            seq,
            len(found),
        )
    return replay.image(experiment.path, before)


def _rewrite(experiment: Experiment, before: Segment, cause: JournalCorruptError) -> None:
    made = rebuild.rebuilt(experiment, Objects(experiment.path).put)
    old = [
        os.path.join(epochs.journal_directory(experiment.path), segment.name)
        for segment in epochs.segments(experiment.path)
        if segment < before
    ]
    old += [
        os.path.join(experiment.home, covered.snapshot_name)
        for covered in epochs.snapshots(experiment.path)
        if covered != made.mark.segment
    ]
    aside = _set_aside(old)
    base = made.image.seq - len(made.records)
    _publish(experiment, before, made.mark, base, made.records)
    for path in old:
        posix.unlink(path)  # it has its other name
    log.error(
        "The journal of %s was damaged and has been rebuilt. %s The damage: %s The damaged files "
        "are kept: %s",
        experiment.path,
        made.summary,
        str(cause).removesuffix(lines.ADVICE),
        ", ".join(aside) or "they are missing",
    )


def _set_aside(paths: list[str]) -> list[str]:
    """Give files a second name that no reader lists; they keep the first one for now."""
    made = []
    for path in paths:
        aside = names.quarantine(path)
        try:
            posix.link(path, aside)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            posix.copy_file(path, aside)
            posix.fsync_file(aside)
        made.append(aside)
    for directory in {os.path.dirname(path) for path in made}:
        posix.fsync_dir(directory)
    return made


def _publish(
    experiment: Experiment, before: Segment, mark: Mark, seq: int, records: list[AnyRecord]
) -> None:
    """Write a file of the journal that goes on from ``mark``, whose last record is ``seq``."""
    directory = epochs.journal_directory(experiment.path)
    last = max(
        (segment for segment in epochs.segments(experiment.path) if segment < before),
        default=Segment(before.epoch - 1, 0),
    )
    segment = Segment(last.epoch, last.number + 1)
    head = Continued(
        at=records[0].at if records else time.time(),
        schema=SCHEMA,
        uuid=experiment.uuid,
        epoch=segment.epoch,
        segment=segment.number,
        writer=writer_version(),
        previous_epoch=mark.segment.epoch,
        previous_segment=mark.segment.number,
        previous_length=mark.length,
        previous_crc=mark.crc,
    )
    text = b"".join(
        lines.make(number, _ENCODE(record))
        for number, record in enumerate([head, *records], seq + 1)
    )
    draft = names.temporary(directory, segment.name)
    try:
        posix.write_new(draft, text)
        posix.fsync_file(draft)
        posix.rename_noreplace(draft, os.path.join(directory, segment.name))
    except BaseException:
        posix.remove_tree(draft)
        raise
    posix.fsync_dir(directory)


def _end(experiment: Experiment, before: Segment) -> Mark:
    """Where the whole journal ends, durably."""
    tip = chain.newest(experiment.path, before)
    if tip is None:
        return chain.START
    posix.fsync_file(tip.path)
    reader = tip.reader()
    for _ in reader:
        pass
    return Mark(tip.segment, reader.length, reader.crc)
