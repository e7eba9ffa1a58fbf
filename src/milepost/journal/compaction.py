"""Making snapshots of files that will not change any more, and removing what they cover."""

from __future__ import annotations

import os
from typing import Final

from milepost.errors import JournalError
from milepost.journal import chain, epochs, replay, snapshot
from milepost.journal.epochs import Segment

WORTHWHILE_BYTES: Final = 8 << 20


def compact(experiment_path: str, segment: Segment, *, keep_rows: bool) -> list[str]:
    """Write a snapshot of everything before ``segment``.

    Only the holder of the experiment, or a process of its own, may call this. Nothing is written
    once another driver has taken over.

    Args:
        experiment_path: the experiment's directory.
        segment: the file that is being written to; it is not covered.
        keep_rows: leave old journal files where they are, because rows have no other place.

    Returns:
        Paths of files that were removed: those covered by the snapshot before this one, but for
        what was recorded since the search was saved last.

    Raises:
        JournalCorruptError: the journal is damaged.
        JournalError: the snapshot cannot be read again.
        OSError: the snapshot could not be written.
    """
    tip = chain.newest(experiment_path, segment)
    if tip is None or tip.segment != segment:
        return []
    mark = chain.predecessor(tip.head)
    if mark == chain.START or snapshot.load(experiment_path, mark) is not None:
        return []
    state = replay.image_before(experiment_path, segment)
    if epochs.newest_epoch(experiment_path) != segment.epoch:
        return []
    snapshot.write(experiment_path, mark, state)
    if snapshot.load(experiment_path, mark) != state:
        raise JournalError(
            f"the snapshot of {experiment_path} up to {mark.segment.name} does not read back as "
            "it was written; no journal file was removed"
        )
    if keep_rows:
        return []
    return snapshot.prune(experiment_path, needed_from=state.searched_seq or state.seq)


def is_worthwhile(
    experiment_path: str, segment: Segment, worthwhile_bytes: int = WORTHWHILE_BYTES
) -> bool:
    """Whether what must be replayed before ``segment`` has become long."""
    covered = epochs.snapshots(experiment_path)
    last = covered[-1] if covered else epochs.NOTHING
    directory = epochs.journal_directory(experiment_path)
    nbytes = sum(
        os.stat(os.path.join(directory, old.name)).st_size
        for old in epochs.segments(experiment_path)
        if last < old < segment
    )
    return nbytes >= worthwhile_bytes
