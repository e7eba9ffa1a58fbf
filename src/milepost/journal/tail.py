"""Following a journal while it grows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from milepost.errors import JournalCorruptError
from milepost.journal import epochs, lines
from milepost.journal.epochs import Segment
from milepost.journal.migrations import decoder
from milepost.journal.records import AnyRecord


class Tail:
    """Reads one epoch's records as they are appended, from file to file.

    Args:
        experiment_path: the experiment's directory.
        segment: the file to begin with; it must exist.
        after: records up to this number are skipped.
    """

    def __init__(self, experiment_path: str, segment: Segment, after: int = 0) -> None:
        self._directory = epochs.journal_directory(experiment_path)
        self._segment = segment
        self._after = after
        self._partial = b""
        self._file = self._open(segment)

    def read(self) -> Iterator[tuple[int, AnyRecord]]:
        """Yield (number, record) for all whole records that were not read before; never waits.

        Raises:
            JournalCorruptError: a whole line is damaged.
        """
        while True:
            following = Segment(self._segment.epoch, self._segment.number + 1)
            # Looked for first: what is read afterwards is then all that this file will ever have.
            ended = os.path.exists(os.path.join(self._directory, following.name))
            yield from self._rest()
            if not ended:
                return
            if self._partial:
                raise JournalCorruptError(f"{self._segment.name} ends in the middle of a record")
            self._file.close()
            self._segment = following
            self._file = self._open(following)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, segment: Segment) -> BinaryIO:
        self._path = os.path.join(self._directory, segment.name)
        self._decode: Callable[[bytes], AnyRecord] | None = None
        return open(self._path, "rb", buffering=1 << 16)

    def _rest(self) -> Iterator[tuple[int, AnyRecord]]:
        for piece in self._file:
            line, self._partial = self._partial + piece, b""
            if not line.endswith(b"\n"):
                self._partial = line  # it is being written right now
                return
            seq = lines.seq_of(line)
            if seq is None:
                raise JournalCorruptError(f"a record of {self._path} is damaged: {line[:80]!r}")
            if self._decode is None:
                self._decode = decoder(self._path, line)
            if seq > self._after:
                yield seq, self._decode(line)
