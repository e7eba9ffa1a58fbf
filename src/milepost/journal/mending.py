"""Reading the lines of a damaged journal file: which are whole, and which can be made whole.

The check of a line says more than that something is wrong with it: if a single bit was flipped,
the difference between the check that is there and the one that the bytes have tells which. So a
line with one flipped bit is not lost. Everything else that does not pass its check is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

from milepost.journal import lines

_LONGEST: Final = 4 << 20
_POLYNOMIAL: Final = 0xEDB88320


class Piece(NamedTuple):
    """A stretch of a journal file.

    Attributes:
        offset: where it begins.
        line: the line that it is, or was; None if that cannot be told.
        seq: the number of that line, or 0.
        mended: whether ``line`` differs from what is in the file.
    """

    offset: int
    line: bytes | None
    seq: int = 0
    mended: bool = False


def pieces(data: bytes) -> Iterator[Piece]:
    """Yield what a journal file is made of, in order."""
    raw = list(io.BytesIO(data))
    offset = position = 0
    while position < len(raw):
        line = raw[position]
        following = raw[position + 1] if position + 1 < len(raw) else b""
        seq = lines.seq_of(line)
        taken = 1
        if seq is not None:
            yield Piece(offset, line, seq)
        elif two := _divided(line):
            for part in two:
                yield Piece(offset, part, _number(part), mended=True)
        elif one := mended(line):
            yield Piece(offset, one, _number(one), mended=True)
        elif lines.seq_of(following) is None and (one := mended(line + following)):
            yield Piece(offset, one, _number(one), mended=True)  # a line break came into being
            taken = 2
        else:
            yield Piece(offset, None)
        offset += sum(map(len, raw[position : position + taken]))
        position += taken


def mended(line: bytes) -> bytes | None:
    """Return the good line that differs from ``line`` in a single bit; None if there is none."""
    if not line or len(line) > _LONGEST:
        return None
    for candidate in (_with_line_break(line), _with_header(line), _with_body(line)):
        if candidate is not None and lines.seq_of(candidate) is not None:
            return candidate
    return None


def _divided(line: bytes) -> tuple[bytes, bytes] | None:
    """Two lines, the break between which was damaged."""
    at = line.find(lines.START, 1)
    while at > 0:
        first, second = line[: at - 1] + b"\n", line[at:]
        if lines.seq_of(first) is not None and lines.seq_of(second) is not None:
            return first, second
        at = line.find(lines.START, at + 1)
    return None


def _with_line_break(line: bytes) -> bytes | None:
    """For damage to the last byte."""
    return line[:-1] + b"\n" if _is_one_bit(line[-1] ^ ord("\n")) else None


def _with_header(line: bytes) -> bytes | None:
    """For damage to what stands before the bytes that are checked."""
    body = line[lines.BODY_AT : -1]
    good = lines.with_check(body)
    difference = int.from_bytes(good[: lines.BODY_AT]) ^ int.from_bytes(line[: lines.BODY_AT])
    return good if _is_one_bit(difference) else None


def _with_body(line: bytes) -> bytes | None:
    """For damage to the bytes that are checked."""
    header = line[: lines.BODY_AT]
    digits = header[len(lines.START) : len(lines.START) + 8]
    try:
        wanted = int(digits, 16)
    except ValueError:
        return None
    if header != b'%b%08x",' % (lines.START, wanted):
        return None
    body = bytearray(line[lines.BODY_AT : -1])
    difference = crc32(body) ^ wanted
    # What flipping each bit of a byte does to the check, from the last byte to the first.
    effects = [_TABLE[1 << bit] for bit in range(8)]
    for at in range(len(body) - 1, -1, -1):
        if difference in effects:
            body[at] ^= 1 << effects.index(difference)
            return header + bytes(body) + b"\n"
        effects = [_TABLE[effect & 0xFF] ^ (effect >> 8) for effect in effects]
    return None


def _is_one_bit(difference: int) -> bool:
    return difference.bit_count() == 1


def _number(line: bytes) -> int:
    seq = lines.seq_of(line)
    assert seq is not None
    return seq


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE: Final = _make_table()
