"""What counts as a change of a search space, and how it is shown."""

from __future__ import annotations

import functools
from typing import Any

import cloudpickle
import numpy as np
import pytest

from milepost import tune
from milepost.tune.likeness import alike
from milepost.tune.space_diff import Unloadable, changes


class Data:
    """An object with attributes and no comparison."""

    def __init__(self, name: str, parts: Any = None) -> None:
        self.name = name
        self.parts = parts


class Slotted:
    """An object without a dict."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def again(value: Any) -> Any:
    """The value as another process would load it."""
    return cloudpickle.loads(cloudpickle.dumps(value))


SAME = [
    {"lr": 0.1, "layers": [1, 2], "opt": {"name": "sgd", "betas": (0.9, 0.99)}},
    {"lr": tune.loguniform(1e-4, 1), "n": tune.qrandint(2, 8, 2), "m": tune.choice(["a", "b"])},
    {"grid": tune.grid_search([1, 2]), "nothing": None, "nan": float("nan")},
    {"f": tune.sample_from(lambda config: config["lr"] * 2)},
    {"data": Data("x", [Data("y")]), "slots": Slotted("z")},
    {"array": np.arange(3), "nested": {"a/b": 1}, "objects": np.array([Data("x"), 1])},
    {"partial": functools.partial(Data, "x")},
]


@pytest.mark.parametrize("space", SAME, ids=range(len(SAME)))
def test_a_space_that_was_stored_is_unchanged(space: dict[str, Any]) -> None:
    """Values, variables, functions and objects are the same when loaded in another process."""
    assert changes(again(space), space) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (0.1, 0.2),
        (1, 1.0),
        (1, True),
        ([1, 2], [1, 2, 3]),
        (tune.uniform(0, 1), tune.uniform(0, 2)),
        (tune.uniform(0.1, 1), tune.loguniform(0.1, 1)),
        (tune.choice([1, 2]), tune.choice([2, 1])),
        (tune.grid_search([1, 2]), tune.grid_search([1, 3])),
        (tune.sample_from(lambda: 1), tune.sample_from(lambda: 2)),
        (Data("x"), Data("y")),
        (Slotted("x"), Slotted("y")),
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.arange(3, dtype="int16")),
        (np.array([Data("x")]), np.array([Data("y")])),
        (1, tune.choice([1])),
    ],
)
def test_a_changed_value(old: Any, new: Any) -> None:
    """Each is a change, and neither way round the same."""
    assert len(changes({"x": old}, {"x": new})) == len(changes({"x": new}, {"x": old})) == 1


def test_how_changes_are_shown() -> None:
    """One line per key, sorted: added, removed, or both values as they are written in a space."""
    old = {"lr": tune.loguniform(0.1, 1), "opt": {"name": "sgd", "m": 0.9}, "gone": Data("x")}
    new = {"lr": tune.uniform(0, 1), "opt": {"name": "sgd", "m": 0.8}, "grid": {"grid_search": [1]}}
    assert changes(old, new) == [
        f"- gone: <{Data.__module__}.Data object at 0x...>",
        "+ grid: grid_search([1])",
        "~ lr: loguniform(0.1, 1) -> uniform(0, 1)",
        "~ opt/m: 0.9 -> 0.8",
    ]
    assert changes({}, {"x": "y" * 500}) == [f"+ x: '{'y' * 56}..."]
    assert changes({"a": {}}, {"a": {"b": 1}}) == ["- a: {}", "+ a/b: 1"]


def test_values_that_cannot_be_loaded_are_compared_by_their_text() -> None:
    """Addresses in a text say nothing."""
    lost = Unloadable("<Data at 0x7f0012>", "gone")

    class Shown:
        """Has a text."""

        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return self.text

    assert changes({"x": lost}, {"x": Shown("<Data at 0x7faa34>")}) == []
    assert changes({"x": lost}, {"x": Shown("<Other at 0x7faa34>")}) != []


def test_objects_that_refer_to_themselves() -> None:
    """Comparing them has an end."""
    one, other = Data("x"), Data("x")
    one.parts, other.parts = [one], [other]
    assert alike(one, other)
    other.parts = [Data("y")]
    assert not alike(one, other)


def test_a_comparison_that_raises() -> None:
    """It counts as different unless the attributes are alike."""

    class Odd:
        """Cannot be compared."""

        def __init__(self, x: int) -> None:
            self.x = x

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("never")

        __hash__ = None  # type: ignore[assignment]

    assert alike(Odd(1), Odd(1))
    assert not alike(Odd(1), Odd(2))
