"""Lines of a damaged file: one flipped bit is put right, everything else is told apart."""

from __future__ import annotations

import random

import pytest

from milepost.journal import lines, mending
from milepost.journal.mending import Piece

FIRST = lines.make(7, b'{"type":"changed","at":1.5,"trial":"t1","status":"RUNNING"}')
SECOND = lines.make(8, b'{"type":"saving","at":2.5,"trial":"t1","attempt":0,"index":12}')


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_any_flipped_bit_of_a_line_is_put_right() -> None:
    """Whichever it is: in the record, in the check, in the line break."""
    for bit in range(len(FIRST) * 8):
        assert mending.mended(flipped(FIRST, bit)) == FIRST


def test_a_flipped_bit_anywhere_in_a_file_costs_nothing() -> None:
    """Also where it joins two lines, or divides one."""
    data = FIRST + SECOND + lines.make(9, b'{"type":"closed","at":3.0,"outcome":"finished"}')
    for bit in range(len(data) * 8):
        found = list(mending.pieces(flipped(data, bit)))
        assert [piece.seq for piece in found] == [7, 8, 9]
        assert b"".join(piece.line or b"" for piece in found) == data
        assert any(piece.mended for piece in found)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_more_damage_is_not_taken_for_less(bits: int) -> None:
    """Several flipped bits never make another line than the one that was written (seeded)."""
    draw = random.Random(bits)
    for _ in range(300):
        damaged = FIRST
        for bit in draw.sample(range(len(FIRST) * 8), bits):
            damaged = flipped(damaged, bit)
        assert mending.mended(damaged) in (None, FIRST)


def test_what_is_lost_has_a_place() -> None:
    """Good lines around it are read, and it is known where it was."""
    rubbish = b"\0" * 50 + b"\n"
    assert list(mending.pieces(FIRST + rubbish + SECOND)) == [
        Piece(0, FIRST, 7),
        Piece(len(FIRST), None),
        Piece(len(FIRST) + len(rubbish), SECOND, 8),
    ]
    assert list(mending.pieces(b"")) == []
    assert [piece.line for piece in mending.pieces(FIRST[:-1] + SECOND[:20])] == [None]


def test_half_a_line_before_a_good_one_is_lost_alone() -> None:
    """What a cut left in the middle of a file does not take the next line with it."""
    found = list(mending.pieces(FIRST[:30] + b"\n" + SECOND))
    assert [(piece.line, piece.seq) for piece in found] == [(None, 0), (SECOND, 8)]


def test_a_long_line_is_mended_too() -> None:
    """Rows can be large."""
    row = b'{"type":"reported","at":1.0,"row":{"text":"%b"}}' % (b"x" * 20_000)
    line = lines.make(123456, row)
    for bit in (0, 100, len(line) * 4, len(line) * 8 - 9, len(line) * 8 - 1):
        assert mending.mended(flipped(line, bit)) == line
