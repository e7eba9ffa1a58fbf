from __future__ import annotations

from milepost.checkpoint.lineage import ancestry
from milepost.checkpoint.manifest import Manifest


def made(name: str, parent: str | None) -> Manifest:
    return Manifest(id=name, trial="t", index=0, parent=parent)


def test_ancestry():
    """The line goes through other trials, and ends where nothing is known any more."""
    known = [made("a-1", None), made("a-2", "a-1"), made("b-5", "a-2"), made("c-0", "lost")]
    assert [m.id for m in ancestry(known[2], known)] == ["b-5", "a-2", "a-1"]
    assert [m.id for m in ancestry(known[3], known)] == ["c-0"]


def test_ancestry_of_damaged_records_ends():
    """A circle, which no commit makes, does not loop for ever."""
    known = [made("a", "b"), made("b", "a")]
    assert [m.id for m in ancestry(known[0], known)] == ["a", "b"]
