"""``docs/format.md`` names every record, member and tag that is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from milepost.journal import records as rec
from milepost.journal.experiment import Identity
from milepost.journal.lease import Holder
from milepost.journal.snapshot import Snapshot
from milepost.storage.codec import Lifting

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def section(title: str) -> str:
    """A chapter of the page, up to the next one of the same level."""
    level = title.split(" ", 1)[0]
    return re.split(rf"^{level} ", TEXT.split(f"\n{title}\n", 1)[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("record", get_args(rec.AnyRecord), ids=lambda record: record.__name__)
def test_every_record_is_described_with_its_members(record: type[msgspec.Struct]) -> None:
    """A row of the table names the type and each member."""
    name = record.__name__.lower()
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    for member in record.__struct_fields__:
        if member != "at":
            shown = "previous_*" if member.startswith("previous_") else member
            assert f"`{shown}`" in row


def test_every_tag_is_described() -> None:
    """The table of tags is complete, and names none that does not exist."""
    tags = {name.removeprefix("lift_") for name in dir(Lifting) if name.startswith("lift_")}
    rows = [line for line in section("## Values").splitlines() if line.startswith("| `")]
    described = {tag for row in rows for tag in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert described == tags


@pytest.mark.parametrize(
    ("struct", "title"),
    [(Identity, "### experiment.json"), (Holder, "### lock"), (Snapshot, "### Snapshots")],
)
def test_other_files_are_described(struct: type[msgspec.Struct], title: str) -> None:
    """Every member of the other files is named in their chapters."""
    for member in struct.__struct_fields__:
        if member != "at":
            assert f"`{member}`" in section(title)


def test_the_example_line_has_the_documented_check() -> None:
    """The example is a real line."""
    from milepost.journal import lines

    (example,) = re.findall(r'^\{"crc".*\}$', section("## Journal"), flags=re.MULTILINE)
    assert lines.seq_of(example.encode() + b"\n") == 7
