"""What differs between two values, said so that one finds it."""

from __future__ import annotations

import collections
import datetime
import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from milepost.testing.comparing import differences, file_differences


class Point:
    """Has no equality of its own."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x = x
        self.y = y


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


class Liar:
    """Says that it is equal to everything."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def cyclic(value: int) -> list[Any]:
    made: list[Any] = [value]
    made.append(made)
    return made


def drawn(seed: int) -> random.Random:
    return random.Random(seed)


EQUAL = [
    (1, 1),
    (1, 1.0),
    (float("nan"), float("nan")),
    (float("inf"), float("inf")),
    ({"a": [1, (2, {"b"})]}, {"a": [1, (2, {"b"})]}),
    (np.float32("nan"), np.float32("nan")),
    (np.arange(3), np.arange(3)),
    (np.array(["a", "b"]), np.array(["a", "b"])),
    (torch.ones(2, 3), torch.ones(2, 3)),
    (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
    (torch.tensor([1, 0]).to_sparse(), torch.tensor([1, 0]).to_sparse()),
    (Point(1, [2]), Point(1, [2])),
    (Slotted(1), Slotted(1)),
    (drawn(1), drawn(1)),
    (np.random.default_rng(1), np.random.default_rng(1)),
    (collections.deque([1, 2], maxlen=3), collections.deque([1, 2], maxlen=3)),
    (datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1)),
    (1 + 2j, 1 + 2j),
    (print, print),
    (cyclic(1), cyclic(1)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda value: type(value).__name__)
def test_equal_values(one: Any, other: Any) -> None:
    """Values of equal contents are equal, whatever their own equality says."""
    assert list(differences(one, other)) == []


DIFFERENT = [
    (1, 2, "", "1", "2"),
    (1, True, "", "1", "True"),
    (1, "1", "", "1", "'1'"),
    (None, 0, "", "None", "0"),
    (0.1, 0.1 + 1e-16, "", "0.1", "0.1000000000000001"),
    ({"a": 1}, {"a": 1, "b": 2}, "b", "(nothing)", "2"),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1]}}, "a/b/1", "2", "(nothing)"),
    ([1], (1,), "", "[1]", "(1,)"),
    ({1: "x"}, {1: "y"}, "1", "'x'", "'y'"),
    (np.zeros(3), np.zeros(4), "", "float64[3]", "float64[4]"),
    (np.zeros(3), np.zeros(3, "f4"), "", "float64[3]", "float32[3]"),
    (Point(1, [2]), Point(1, [3]), "y/0", "2", "3"),
    (Slotted(1), Slotted(2), "x", "1", "2"),
    (Liar(1), Liar(2), "x", "1", "2"),
    (Point(1, 2), Slotted(1), "", "<", "<"),
    (collections.deque([1]), collections.deque([2]), "(items)/0", "1", "2"),
    (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), "(0)", "b'", "b'"),
    (print, len, "", "'print'", "'len'"),
    ({"s": {1}}, {"s": {2}}, "s", "{1}", "{2}"),
    (cyclic(1), cyclic(2), "0", "1", "2"),
]


@pytest.mark.parametrize(("one", "other", "path", "expected", "found"), DIFFERENT)
def test_different_values(one: Any, other: Any, path: str, expected: str, found: str) -> None:
    """The first difference names the place, what should be there and what is."""
    first = next(differences(one, other))
    assert first.path == path
    assert first.expected.startswith(expected)
    assert first.found.startswith(found)


def test_arrays_say_where_and_how_many() -> None:
    """The first element that differs is shown, with the number of others."""
    one, other = np.zeros((2, 3)), np.zeros((2, 3))
    other[1, 1:] = 7
    for make in (lambda array: array, torch.from_numpy):
        (found,) = differences({"w": make(one)}, {"w": make(other)})
        assert found.path == "w[1, 1]"
        assert "7.0" in found.found
        assert "2 of 6 elements differ" in found.found
    assert str(found).startswith("w[1, 1]: ")


def test_random_generators_differ_when_they_have_drawn() -> None:
    """The state of a generator is looked into."""
    one, other = drawn(1), drawn(1)
    other.random()
    assert any(differences(one, other))
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    second.random()
    assert any(differences({"rng": first}, {"rng": second}))


def test_what_cannot_be_pickled_is_compared_as_it_can() -> None:
    """Identity is all that is left of a lock."""
    import threading

    lock = threading.Lock()
    assert list(differences(lock, lock)) == []
    assert len(list(differences(lock, threading.Lock()))) == 1


def test_tolerance() -> None:
    """It is relative, and of floating-point numbers only."""
    one = {"a": 1000.0, "b": np.array([1.0]), "c": torch.tensor([2.0]), "n": 1000}
    other = {"a": 1000.1, "b": np.array([1.0001]), "c": torch.tensor([2.0002]), "n": 1001}
    assert [d.path for d in differences(one, other, tolerance=1e-3)] == ["n"]
    assert len(list(differences(one, other, tolerance=1e-6))) == 4


def test_ignored_paths() -> None:
    """Patterns match whole paths, and what is below them is not looked at."""
    one = {"a": {"time": 1, "x": 1}, "b_time": 1, "c": [1, 2]}
    other = {"a": {"time": 2, "x": 2}, "b_time": 2, "c": [2, 3]}
    found = differences(one, other, ignore=["*time", "c"])
    assert [d.path for d in found] == ["a/x"]
    assert list(differences(one, other, ignore="*")) == []


# --- files -------------------------------------------------------------------------------------


def save_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value))


def save_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def save_torch(value: Any, path: Path) -> None:
    torch.save(value, path)


def save_npz(value: Any, path: Path) -> None:
    np.savez(path, **value)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("s.json", save_json),
        ("s.pkl", save_pickle),
        ("s.pt", save_torch),
        ("s.npz", save_npz),
    ],
)
def test_files_are_looked_into(tmp_path: Path, name: str, save: Any) -> None:
    """The difference names the file and the place in it; other bytes may mean the same."""
    for folder, value in (("one", {"a": 1, "b": 2}), ("two", {"b": 2, "a": 1})):
        (tmp_path / folder).mkdir()
        save(value, tmp_path / folder / name)
    paths = [tmp_path / folder / name for folder in ("one", "two")]
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert list(file_differences(*paths)) == []
    save({"a": 1, "b": 3}, paths[1])
    (found,) = file_differences(*paths)
    assert found.path == f"{name}:b"
    assert "2" in found.expected
    assert "3" in found.found
    assert list(file_differences(*paths, ignore=[f"{name}:b"])) == []
    assert list(file_differences(*paths, ignore=["s.*"])) == []


@pytest.mark.parametrize("name", ["s.bin", "s.pkl", "s.json"])
def test_files_that_cannot_be_looked_into(tmp_path: Path, name: str) -> None:
    """Their bytes count; sizes are shown."""
    for folder, data in (("one", b"\0" * 1234), ("two", b"\1" * 1234)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
    (found,) = file_differences(tmp_path / "one" / name, tmp_path / "two" / name)
    assert found.path == name
    assert found.expected == "1,234 bytes that differ"
