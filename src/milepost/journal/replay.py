"""Reading a journal: its records in order, and what they amount to."""

from __future__ import annotations

import os
from collections.abc import Iterator

from milepost.errors import JournalCorruptError
from milepost.journal import chain, epochs, snapshot
from milepost.journal.chain import Mark, Span
from milepost.journal.epochs import Segment
from milepost.journal.image import InconsistentRecordError, RunImage, apply
from milepost.journal.lines import ADVICE
from milepost.journal.records import AnyRecord

__all__ = ["RunImage", "image", "image_before", "records", "settled"]


def records(
    experiment_path: str, *, after: int = 0, up_to: int | None = None
) -> Iterator[tuple[int, AnyRecord]]:
    """Yield (number, record) for the records that the journal still holds, oldest first.

    Those that a snapshot covers may be gone, but never one after the last record of a saved
    search (:attr:`RunImage.searched_seq`): what happened since then can be gone through once more.
    Neither the lease nor the user's code is needed, and a run that goes on meanwhile does no harm.

    Args:
        experiment_path: the experiment's directory.
        after: leave out records up to this number; files that hold only such are not opened.
        up_to: leave out records after this number.

    Raises:
        JournalCorruptError: a record that is not the torn end of the newest file is damaged, or
            ``after`` is given and the record that follows it is gone.
        JournalError: a newer version wrote the journal.
    """
    tip = chain.newest(experiment_path)
    if tip is None:
        return
    spans = _back_to_record(experiment_path, tip, after)
    if after and spans[0].first_seq > after + 1:
        raise JournalCorruptError(
            f"the journal of {experiment_path} holds no record before number "
            f"{spans[0].first_seq}, but those after number {after} were asked for"
        )
    for span in spans:
        for seq, line in span.reader():
            if up_to is not None and seq > up_to:
                return
            if seq > after:
                yield seq, span.decode(line)


def _back_to_record(experiment_path: str, tip: Span, after: int) -> list[Span]:
    """The files that hold the records after a number, as far as they are there."""

    def stop(mark: Mark) -> bool:
        return not _is_there(experiment_path, mark)

    if not after:
        return chain.back_to(experiment_path, tip, stop)
    spans: list[Span] = []
    for span in chain.backwards(experiment_path, tip):
        spans.append(span)
        mark = chain.predecessor(span.head)
        if span.first_seq <= after + 1 or mark == chain.START or stop(mark):
            break
    return spans[::-1]


def image(experiment_path: str, up_to: Segment | None = None) -> RunImage:
    """Return the state of the run after its last record.

    Args:
        experiment_path: the experiment's directory.
        up_to: ignore files after this one.

    Raises:
        JournalCorruptError: a record that is not the torn end of the newest file is damaged, or a
            file is missing.
        JournalError: a newer version wrote the journal.
    """
    while True:
        covered = epochs.snapshots(experiment_path)
        try:
            tip = chain.newest(experiment_path, up_to)
            return RunImage() if tip is None else _state(experiment_path, tip)
        except (JournalCorruptError, FileNotFoundError):
            # A live run may have compacted its journal under our hands: then read the new one.
            if epochs.snapshots(experiment_path) == covered:
                raise


def image_before(experiment_path: str, segment: Segment) -> RunImage:
    """Return the state of the run just before the first record of ``segment``."""
    tip = chain.newest(experiment_path, segment)
    if tip is None or tip.segment != segment:
        raise JournalCorruptError(f"{segment.name} is missing in {experiment_path}")
    mark = chain.predecessor(tip.head)
    if mark == chain.START:
        return RunImage()
    return _state(experiment_path, tip, skip_tip=True)


def settled(experiment_path: str, segment: Segment) -> RunImage:
    """Return the state of the newest snapshot before ``segment``; an empty one without any.

    All rows that it counts are flushed in the result files.
    """
    tip = chain.newest(experiment_path, segment)
    return RunImage() if tip is None else _since_snapshot(experiment_path, tip)[0]


def _state(experiment_path: str, tip: Span, skip_tip: bool = False) -> RunImage:
    """Fold the newest snapshot that the chain vouches for and the files after it."""
    state, spans = _since_snapshot(experiment_path, tip)
    return _fold(state, spans[:-1] if skip_tip else spans)


def _since_snapshot(experiment_path: str, tip: Span) -> tuple[RunImage, list[Span]]:
    found: list[RunImage] = []

    def stop(mark: Mark) -> bool:
        state = snapshot.load(experiment_path, mark)
        if state is not None:
            found.append(state)
        return state is not None

    spans = chain.back_to(experiment_path, tip, stop)
    return (found[0] if found else RunImage()), spans


def _fold(state: RunImage, spans: list[Span]) -> RunImage:
    for span in spans:
        for seq, line in span.reader():
            if state.seq and seq != state.seq + 1:
                raise JournalCorruptError(
                    f"{span.path} goes on with record {seq}, but the record before it is "
                    f"{state.seq}. {ADVICE}"
                )
            try:
                apply(state, seq, span.decode(line))
            except InconsistentRecordError as error:
                raise JournalCorruptError(f"{span.path}: {error}") from error
    return state


def _is_there(experiment_path: str, mark: Mark) -> bool:
    directory = epochs.journal_directory(experiment_path)
    return os.path.exists(os.path.join(directory, mark.segment.name))
