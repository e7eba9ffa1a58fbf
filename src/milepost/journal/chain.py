"""Which files of a journal count, and how far.

The first line of each file names its predecessor with its valid length and CRC. So the newest
file with such a line determines everything: bytes that a fenced driver wrote later, and files
that a taker began but never got to write to, are not part of the chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from milepost.errors import JournalCorruptError
from milepost.journal import epochs
from milepost.journal.epochs import NOTHING, Segment
from milepost.journal.lines import ADVICE, Reader
from milepost.journal.migrations import decoder
from milepost.journal.records import AnyRecord, Continued, Opened

Head = Opened | Continued


class Span(msgspec.Struct, frozen=True):
    """The part of one journal file that counts.

    Attributes:
        segment: which file.
        path: its path.
        head: its first record.
        first_seq: the number of that record.
        decode: reads its lines.
        length: its valid bytes; None for the newest file, whose end may be torn or still grow.
        crc: CRC-32 of those bytes in hex, or "".
    """

    segment: Segment
    path: str
    head: Head
    first_seq: int
    decode: Callable[[bytes], AnyRecord]
    length: int | None = None
    crc: str = ""

    def reader(self) -> Reader:
        """Return a new reader of the valid lines."""
        return Reader(self.path, self.length, self.crc)


class Mark(msgspec.Struct, frozen=True):
    """The end of a span, as its successor names it."""

    segment: Segment
    length: int
    crc: str


START: Final = Mark(NOTHING, 0, "")


def predecessor(head: Head) -> Mark:
    """Return what a file's first record says about the file before it."""
    segment = Segment(head.previous_epoch, head.previous_segment)
    return Mark(segment, head.previous_length, head.previous_crc)


def newest(experiment_path: str, up_to: Segment | None = None) -> Span | None:
    """Return the newest file that anybody has written to, or None.

    Args:
        experiment_path: the experiment's directory.
        up_to: ignore files after this one.

    Raises:
        JournalCorruptError: its first line is damaged.
        JournalError: a newer version wrote it.
    """
    for segment in reversed(epochs.segments(experiment_path)):
        if up_to is None or segment <= up_to:
            span = _span(experiment_path, segment)
            if span is not None:
                return span
    return None


def backwards(experiment_path: str, tip: Span) -> Iterator[Span]:
    """Follow the chain from ``tip`` back to its first file; each file is looked at when it is due.

    Raises:
        JournalCorruptError: a file of the chain is missing or its first line is damaged.
    """
    span = tip
    while True:
        yield span
        mark = predecessor(span.head)
        if mark == START:
            return
        before = _span(experiment_path, mark.segment, mark)
        if before is None:
            raise JournalCorruptError(
                f"{mark.segment.name} is missing or empty, but {span.path} continues it "
                f"from byte {mark.length}. {ADVICE}"
            )
        span = before


def back_to(experiment_path: str, tip: Span, stop: Callable[[Mark], bool]) -> list[Span]:
    """Follow the chain from ``tip`` backwards to its beginning, or to where ``stop`` holds.

    Args:
        experiment_path: the experiment's directory.
        tip: the newest file.
        stop: whether what ends at this mark need not be read.

    Returns:
        The spans, oldest first.

    Raises:
        JournalCorruptError: a file of the chain is missing or its first line is damaged.
    """
    spans: list[Span] = []
    for span in backwards(experiment_path, tip):
        spans.append(span)
        mark = predecessor(span.head)
        if mark == START or stop(mark):
            break
    return spans[::-1]


def first_number(experiment_path: str, segment: Segment) -> int | None:
    """The number of a file's first record; None if nothing whole was ever written to it.

    Raises:
        JournalCorruptError: its first line is damaged.
        OSError: it cannot be read.
    """
    path = os.path.join(epochs.journal_directory(experiment_path), segment.name)
    first = next(iter(Reader(path)), None)
    return None if first is None else first[0]


def head(experiment_path: str, segment: Segment) -> Head | None:
    """The first record of one file; None if it is not there, or damaged.

    Raises:
        JournalError: a newer version wrote it.
    """
    try:
        span = _span(experiment_path, segment)
    except JournalCorruptError:
        return None
    return None if span is None else span.head


def _span(experiment_path: str, segment: Segment, mark: Mark | None = None) -> Span | None:
    """The span of one file; None if nothing whole was ever written to it."""
    path = os.path.join(epochs.journal_directory(experiment_path), segment.name)
    try:
        first = next(iter(Reader(path)), None)
    except FileNotFoundError:
        return None
    if first is None:
        return None
    seq, line = first
    decode = decoder(path, line)
    head = decode(line)
    if not isinstance(head, Opened | Continued):
        raise JournalCorruptError(f"{path} begins with a {type(head).__name__} record")
    if mark is None:
        return Span(segment, path, head, seq, decode)
    return Span(segment, path, head, seq, decode, mark.length, mark.crc)
