r"""One record as one line of text.

A line is a JSON object whose first members are its check and its number::

    {"crc":"1c291ca3","seq":7,"type":"changed","at":1767225600.5,...}

``crc`` is the CRC-32 of the bytes that follow that member, from ``"seq"`` to the last brace, so
a line can be checked without being parsed. ``seq`` counts all records of an experiment from 1,
without gaps.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, Final
from zlib import crc32

from milepost.errors import JournalCorruptError

START: Final = b'{"crc":"'
ADVICE: Final = (
    "Nothing was changed. Checkpoints and result files are not affected: each checkpoint's own "
    "manifest says what it is. Restoring the experiment repairs its journal."
)
_CHECK_AT: Final = len(START)
BODY_AT: Final = _CHECK_AT + 8 + len(b'",')  # where the bytes begin that the check is of
_SEQ: Final = b'"seq":'
_SEQ_AT: Final = BODY_AT + len(_SEQ)


def make(seq: int, record: bytes) -> bytes:
    """Return the line of an encoded record, with its newline."""
    return with_check(b'"seq":%d,%b' % (seq, record[1:]))


def with_check(body: bytes) -> bytes:
    """Return the line whose checked bytes are ``body``."""
    return b'{"crc":"%08x",%b\n' % (crc32(body), body)


def seq_of(line: bytes) -> int | None:
    """Return the number of a whole and undamaged line; None for any other bytes."""
    # Slices are quicker than startswith() and memoryview for lines of the usual length.
    if line[_CHECK_AT:BODY_AT] != b'%08x",' % crc32(line[BODY_AT:-1]):
        return None
    if line[:_CHECK_AT] != START or line[-2:] != b"}\n" or line[BODY_AT:_SEQ_AT] != _SEQ:
        return None
    digits = line[_SEQ_AT : line.find(b",", _SEQ_AT)]
    return int(digits) if digits.isdigit() else None


def _holds_a_line(data: bytes) -> bool:
    """Whether the bytes end in a good line, also where a newline before it was damaged."""
    at = data.find(START)
    while at >= 0:
        if seq_of(data[at:]) is not None:
            return True
        at = data.find(START, at + 1)
    return False


class Reader:
    """Reads the lines of one journal file and checks them.

    Args:
        path: the file.
        length: how many bytes of it count; None for the file that may still grow, whose end may
            be torn.
        crc: CRC-32 of those bytes in hex, when ``length`` is given.

    Attributes:
        length: bytes of whole and undamaged lines, once all have been read.
        torn: bytes at the end that are no whole line.
    """

    def __init__(self, path: str, length: int | None = None, crc: str = "") -> None:
        self.path = path
        self.length = 0
        self.torn = 0
        self._expected_length = length
        self._expected_crc = crc

    @property
    def crc(self) -> str:
        """CRC-32 of the first :attr:`length` bytes, in hex."""
        with open(self.path, "rb") as file:
            return f"{crc32(file.read(self.length)):08x}"

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (number, line).

        Raises:
            JournalCorruptError: a line that is not the torn end is damaged, or numbers have a gap.
            OSError: the file cannot be read.
        """
        if self._expected_length is None:
            with open(self.path, "rb") as file:
                yield from self._checked(file)
            return
        with open(self.path, "rb") as file:
            data = file.read(self._expected_length)
        if f"{crc32(data):08x}" == self._expected_crc and len(data) == self._expected_length:
            yield from _unchecked(data)
            self.length = len(data)
            return
        yield from self._checked(io.BytesIO(data))  # which says where it is damaged
        raise JournalCorruptError(
            f"{self.path} has {self.length} valid bytes with check {self.crc}, but the file "
            f"after it says {self._expected_length} with {self._expected_crc}. " + ADVICE
        )

    def _checked(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        length = 0
        last = None
        for number, line in enumerate(file, 1):
            seq = seq_of(line)
            if seq is None:
                self.length = length
                # Half a line was the end when it was read; its writer may go on meanwhile.
                self._torn_or_corrupt(line, number, list(file) if line.endswith(b"\n") else [])
                return
            if last is not None and seq != last + 1:
                self.length = length
                raise self._corrupt(number, f"record {seq} follows record {last}")
            last = seq
            length += len(line)
            yield seq, line
        self.length = length

    def _torn_or_corrupt(self, line: bytes, number: int, rest: list[bytes]) -> None:
        """Return for the torn end of the file, raise for a damaged line before good ones."""
        if self._expected_length is not None or any(map(_holds_a_line, [line, *rest])):
            raise self._corrupt(number, "its check does not fit")
        self.torn = len(line) + sum(map(len, rest))

    def _corrupt(self, number: int, reason: str) -> JournalCorruptError:
        return JournalCorruptError(
            f"{os.path.basename(self.path)} is damaged in line {number}, at byte {self.length}: "
            f"{reason} ({self.path}). " + ADVICE
        )


def _unchecked(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines of a file whose own check has been found right."""
    for line in io.BytesIO(data):
        yield int(line[_SEQ_AT : line.find(b",", _SEQ_AT)]), line
