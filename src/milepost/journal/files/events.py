"""``events.out.tfevents.*``: a trial's metrics for TensorBoard.

The files are what tensorboardX would write. Scalars and hyper-parameters are encoded here, one
event per row; only lists and arrays need that package, which takes long to import.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from milepost.journal import files
from milepost.journal.files import hparams, protobuf
from milepost.journal.files.rows import Row

_PREFIX: Final = "ray/tune/"
_LEFT_OUT: Final = frozenset({"config", "pid", "timestamp", "time_total_s", "training_iteration"})
_ODD: Final = re.compile(r"[^-/\w.]")
_LAST_STEP: Final = 2**63 - 1
_TENSOR_ERRORS: Final = (
    ValueError, OverflowError, TypeError, AssertionError, ImportError, AttributeError,
)  # fmt: skip


class EventFile:
    """The event file of one start of a trial; each start has its own.

    Args:
        directory: the trial's directory.
        notice: is told, once per tag, of a value that cannot be shown.
    """

    def __init__(self, directory: str, notice: Callable[[str], None]) -> None:
        self._directory = directory
        self._notice = notice
        self._path: str | None = None
        self._records: list[bytes] = []
        self._heads: dict[str, bytes] = {}
        self._odd: set[str] = set()

    def begin(self) -> None:
        """Put what is added from now on into a file of its own."""
        self.flush()
        self._path = None

    def add(self, row: Row) -> None:
        """Take one row; it is written by :meth:`flush`."""
        values = row.values
        step = values.get("timesteps_total") or values.get("training_iteration") or 0
        parts = []
        for key, value in row.flat.items():
            if key in _LEFT_OUT or value is None:
                continue
            if isinstance(value, int | float):
                if value == value:
                    head = self._heads.get(key) or self._head(key)
                    parts.append(head + _single(value))
            elif len(value) if isinstance(value, list) else getattr(value, "size", 0):
                parts.append(self._tensor(key, value))
        self._add_event(row.at, step, b"".join(parts))

    def add_hparams(self, at: float, params: Mapping[str, Any], last: Row) -> None:
        """Take the trial's searched variables and the names of its last scalars."""
        for summary in hparams.summaries(params, _tags(last)):
            self._add_event(at, 0, summary)

    def flush(self) -> None:
        """Write what was added."""
        if self._records:
            if self._path is None:
                self._path = self._new_path(self._records[0])
            files.append(self._path, b"".join(map(_framed, self._records)))
            self._records.clear()

    def _add_event(self, at: float, step: Any, summary: bytes) -> None:
        is_number = isinstance(step, int | float) and abs(step) <= _LAST_STEP  # and no NaN
        number = int(step) if is_number else 0
        event = protobuf.double(1, at)
        if number:
            event += protobuf.integer(2, number)
        self._records.append(event + protobuf.block(5, summary))

    def _head(self, key: str) -> bytes:
        """All bytes of a scalar before its value."""
        inner = protobuf.text(1, _tag(key)) + b"\x15"  # field 2, four bytes
        head = b"\x0a" + protobuf.varint(len(inner) + 4) + inner
        self._heads[key] = head
        return head

    def _tensor(self, key: str, value: Any) -> bytes:
        from milepost.journal.files import tensors

        try:
            return tensors.summary(_tag(key), value)
        except _TENSOR_ERRORS as error:
            if key not in self._odd:
                self._odd.add(key)
                self._notice(f"TensorBoard cannot show the metric {key!r}: {str(error)[:200]}")
            return b""

    def _new_path(self, first: bytes) -> str:
        """Begin a file, named after its host and the time of its first event."""
        (at,) = struct.unpack_from("<d", first, 1)
        name = f"events.out.tfevents.{int(at):010d}.{os.uname().nodename}"
        path, number = os.path.join(self._directory, name), 0
        while os.path.lexists(path):
            number += 1
            path = os.path.join(self._directory, f"{name}.{number}")
        version = protobuf.double(1, at) + protobuf.text(3, "brain.Event:2")
        files.append(path, _framed(version))
        return path


def _tags(row: Row) -> Iterable[str]:
    for key, value in row.flat.items():
        if key not in _LEFT_OUT and isinstance(value, int | float) and value == value:
            yield _tag(key)


def _tag(key: Any) -> str:
    return _ODD.sub("_", f"{_PREFIX}{key}")


def _single(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except (OverflowError, struct.error):  # too large for four bytes, or for any float
        return struct.pack("<f", math.inf if value > 0 else -math.inf)


def _framed(event: bytes) -> bytes:
    """A record of an event file: length, its check, the bytes, their check."""
    length = struct.pack("<Q", len(event))
    return b"%b%b%b%b" % (length, _check(length), event, _check(event))


def _check(data: bytes) -> bytes:
    """The masked CRC-32C of ``data``."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE: Final = _make_table()
