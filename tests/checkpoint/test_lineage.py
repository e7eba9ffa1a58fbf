from __future__ import annotations

import pytest

from milepost.checkpoint.lineage import Fork, ancestry, pins
from milepost.checkpoint.manifest import Manifest

REASON = "trial b started from it and has no checkpoint of its own yet"


@pytest.mark.parametrize(
    ("committed", "ended", "expected"),
    [
        ({}, (), {"a": {3: REASON}}),
        ({"b": [0, 1]}, (), {"a": {3: REASON}}),  # those were before it started from a
        ({"b": [0, 1, 2]}, (), {}),
        ({"a": [7], "b": []}, (), {"a": {3: REASON}}),
        ({}, ("b",), {}),
        ({}, ("a",), {"a": {3: REASON}}),
    ],
)
def test_a_pin_ends_at_the_first_own_commit(committed, ended, expected):
    """A donor's checkpoint stays until the fork has one of its own, or will never start again."""
    assert pins([Fork("b", 2, "a", 3)], committed, ended) == expected


def test_a_trial_pins_its_own_restart():
    """A trial that restarts from its own checkpoint holds it until it has a newer one."""
    fork = Fork("a", 4, "a", 3)
    assert 3 in pins([fork], {"a": [1, 3]})["a"]
    assert pins([fork], {"a": [3, 4]}) == {}


def test_several_forks_of_one():
    """A donor is free when the last of its forks is."""
    forks = [Fork("b", 0, "a", 3), Fork("c", 0, "a", 3)]
    assert pins(forks, {"b": [0]})["a"].keys() == {3}
    assert pins(forks, {"b": [0], "c": [0]}) == {}


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
