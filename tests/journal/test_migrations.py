"""Records of other versions: older ones are brought forward, newer ones refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from milepost.errors import JournalCorruptError, JournalError
from milepost.journal import lines, records
from milepost.journal.migrations import MIGRATIONS, SNAPSHOT_MIGRATIONS, decoder


def head(schema: int) -> bytes:
    return lines.make(1, b'{"type":"opened","schema":%d,"writer":"milepost 9.0"}' % schema)


def test_a_newer_schema_names_both_versions() -> None:
    """The error says what wrote it and what to do."""
    with pytest.raises(JournalError, match=r"schema 99, written by milepost 9\.0; this is mile"):
        decoder("00000001.jsonl", head(99))


def test_an_older_schema_goes_through_each_step() -> None:
    """Migrations run in order, from the schema of the file to ours."""

    def to_2(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "status": record["state"]}

    def to_3(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "status": record["status"].upper()}

    decode = decoder("f", head(1), current=3, migrations={1: to_2, 2: to_3})
    record = decode(lines.make(5, b'{"type":"changed","at":1,"trial":"t","state":"running"}'))
    assert record == records.Changed(at=1.0, trial="t", status="RUNNING")


def test_every_older_schema_has_a_migration() -> None:
    """No step is missing."""
    assert set(MIGRATIONS) == set(range(1, records.SCHEMA))
    assert set(SNAPSHOT_MIGRATIONS) == set(range(1, records.SCHEMA))


def test_unknown_records_and_members() -> None:
    """A whole record of an unknown type is an error; a member we do not know is ignored."""
    decode = decoder("f", head(records.SCHEMA))
    line = lines.make(2, b'{"type":"changed","at":1.0,"trial":"t","status":"X","more":1}')
    assert decode(line) == records.Changed(at=1.0, trial="t", status="X")
    with pytest.raises(JournalCorruptError, match="is whole but not understood"):
        decode(lines.make(2, b'{"type":"sang","at":1.0}'))
    with pytest.raises(JournalCorruptError, match="does not begin with a header"):
        decoder("f", lines.make(1, b'{"type":"closed"}'))
