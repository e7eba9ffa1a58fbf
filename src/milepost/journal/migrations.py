"""Reading records that older versions wrote.

Each file of the journal names the schema of its records in its first line. A record of an older
schema goes through one function per step, each from a schema to the next; a newer schema is
refused by name. A change of the records needs a new number, a migration here and a golden
journal in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from milepost.errors import JournalCorruptError, JournalError
from milepost.journal.experiment import writer_version
from milepost.journal.records import SCHEMA, AnyRecord

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: Final[dict[int, Migration]] = {}
"""From a schema to a function that makes a record of it one of the next schema."""

SNAPSHOT_MIGRATIONS: Final[dict[int, Migration]] = {}
"""The same for snapshots, whose ``image`` outlives the records that it was made from."""

_DECODER: Final = msgspec.json.Decoder(AnyRecord)


class _Head(msgspec.Struct):
    schema: int
    writer: str = "an unknown program"


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE_HEAD: Final = msgspec.json.Decoder(_Head).decode


def decoder(
    path: str,
    first_line: bytes,
    *,
    current: int = SCHEMA,
    migrations: Mapping[int, Migration] = MIGRATIONS,
) -> Callable[[bytes], AnyRecord]:
    """Return the function that reads the lines of a journal file.

    Args:
        path: the file, for messages.
        first_line: its first line, which names its schema.
        current: the schema that the records of this version have.
        migrations: as :data:`MIGRATIONS`.

    Raises:
        JournalError: the schema is newer than this version knows.
        JournalCorruptError: the first line names none.
    """
    forward = steps(path, first_line, current=current, migrations=migrations)
    return lambda line: _decode(path, forward(line))


def steps(
    path: str, first_line: bytes, *, current: int, migrations: Mapping[int, Migration]
) -> Callable[[bytes], bytes]:
    """Return the function that makes a line one of the current schema.

    Args:
        path: the file, for messages.
        first_line: its first line, which names its schema.
        current: the schema of this version.
        migrations: from a schema to the step that leads to the next.

    Raises:
        JournalError: the schema is newer than this version knows.
        JournalCorruptError: the first line names none.
    """
    try:
        head = _DECODE_HEAD(first_line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalCorruptError(f"{path} does not begin with a header: {error}") from error
    if head.schema > current:
        raise JournalError(
            f"{path} has schema {head.schema}, written by {head.writer}; this is "
            f"{writer_version()}, which reads schemas up to {current}. Use a newer milepost; "
            "nothing was changed."
        )
    needed = [migrations[version] for version in range(head.schema, current)]

    def forward(line: bytes) -> bytes:
        record = msgspec.json.decode(line)
        for step in needed:
            record = step(record)
        return msgspec.json.encode(record)

    return forward if needed else lambda line: line


def _decode(path: str, line: bytes) -> AnyRecord:
    try:
        record: AnyRecord = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalCorruptError(
            f"a record of {path} is whole but not understood: {error} in {line[:120]!r}"
        ) from error
    return record
