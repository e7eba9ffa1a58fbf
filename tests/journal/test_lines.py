"""Lines of a journal file: damage is told from a torn end."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.errors import JournalCorruptError
from milepost.journal import lines


def test_a_line_is_json_with_its_check_first() -> None:
    """The format is as documented: CRC-32 of everything from "seq" to the last brace."""
    line = lines.make(7, b'{"type":"changed","at":1.5}')
    body = b'"seq":7,"type":"changed","at":1.5}'
    assert line == b'{"crc":"%08x",' % zlib.crc32(body) + body + b"\n"
    assert json.loads(line)["seq"] == 7
    assert lines.seq_of(line) == 7


@given(st.integers(0, 70 * 8 - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    """No single bit of a line can change unnoticed."""
    line = bytearray(lines.make(12, b'{"type":"changed","trial":"a"}'))
    bit %= len(line) * 8
    line[bit // 8] ^= 1 << bit % 8
    # In hex digits the case is free; all else must fit.
    assert lines.seq_of(bytes(line)) is None


@given(st.binary(max_size=40))
def test_other_bytes_are_no_line(data: bytes) -> None:
    """Arbitrary bytes never count as a record."""
    assert lines.seq_of(data) is None
    assert lines.seq_of(data + b"}\n") is None


def written(tmp_path: Path, count: int = 4) -> tuple[Path, list[bytes]]:
    path = tmp_path / "00000001.jsonl"
    all_lines = [lines.make(seq, b'{"type":"x","n":%d}' % seq) for seq in range(1, count + 1)]
    path.write_bytes(b"".join(all_lines))
    return path, all_lines


def test_reading_stops_before_a_torn_end(tmp_path: Path) -> None:
    """Cut at every byte, exactly the whole lines are read."""
    path, all_lines = written(tmp_path)
    whole = b"".join(all_lines)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        reader = lines.Reader(str(path))
        seqs = [seq for seq, _ in reader]
        assert seqs == list(range(1, whole[:length].count(b"\n") + 1))
        assert reader.length + reader.torn == length
        assert int(reader.crc, 16) == zlib.crc32(whole[: reader.length])


def test_damage_before_good_lines_is_an_error_that_says_where(tmp_path: Path) -> None:
    """File, line and byte are named; the end of the file alone may be bad."""
    path, all_lines = written(tmp_path)
    damaged = all_lines[1].replace(b"x", b"y")
    path.write_bytes(all_lines[0] + damaged + all_lines[2])
    where = rf"00000001\.jsonl is damaged in line 2, at byte {len(all_lines[0])}: its check"
    with pytest.raises(JournalCorruptError, match=where):
        list(lines.Reader(str(path)))
    path.write_bytes(all_lines[0] + damaged + b"\0" * 50)
    assert [seq for seq, _ in lines.Reader(str(path))] == [1]
    path.write_bytes(all_lines[0] + all_lines[1][:-1] + b"\x0b" + all_lines[2])
    with pytest.raises(JournalCorruptError, match=where):
        list(lines.Reader(str(path)))
    path.write_bytes(all_lines[0] + all_lines[2])
    with pytest.raises(JournalCorruptError, match="record 3 follows record 1"):
        list(lines.Reader(str(path)))


def test_a_finished_file_must_be_as_its_successor_says(tmp_path: Path) -> None:
    """With a known length later bytes are ignored, and nothing may differ before it."""
    path, all_lines = written(tmp_path)
    length = len(all_lines[0] + all_lines[1])
    crc = f"{zlib.crc32(all_lines[0] + all_lines[1]):08x}"
    assert [seq for seq, _ in lines.Reader(str(path), length, crc)] == [1, 2]
    with pytest.raises(JournalCorruptError, match="but the file after it says"):
        list(lines.Reader(str(path), length, "00000000"))
    path.write_bytes(all_lines[0])
    with pytest.raises(JournalCorruptError, match="but the file after it says"):
        list(lines.Reader(str(path), length, crc))
    path.write_bytes(all_lines[0] + all_lines[1][:-1])
    with pytest.raises(JournalCorruptError, match="line 2"):
        list(lines.Reader(str(path), length, crc))
