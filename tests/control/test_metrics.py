"""What numbers amount to over a trial's rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.api.nested import flatten_dict
from milepost.control.metrics import RunningMetrics, flatten, unpacked


def analysis(*rows: dict[str, Any]) -> dict[str, dict[str, float]]:
    metrics = RunningMetrics()
    for row in rows:
        metrics.add(row)
    assert repr(unpacked(metrics.packed())) == repr(metrics.analysis())
    return metrics.analysis()


def test_integers_that_no_float_holds() -> None:
    """They count as infinite, so that an average exists; bool and others stay what they are."""
    told = analysis({"a": 10**400, "b": {"c": -(10**5000)}}, {"a": 1, "b": {"c": True}})
    assert told["a"] == {
        "max": math.inf, "min": 1, "avg": math.inf, "last": 1,
        "last-5-avg": math.inf, "last-10-avg": math.inf,
    }  # fmt: skip
    assert (told["b/c"]["min"], told["b/c"]["last"]) == (-math.inf, True)


def test_all_scopes() -> None:
    """Max, min, averages over all, the last five and the last ten, and the last."""
    told = analysis(*({"loss": value} for value in range(1, 13)))
    assert told == {
        "loss": {
            "max": 12, "min": 1, "avg": 6.5, "last": 12, "last-5-avg": 10, "last-10-avg": 7.5,
        }
    }  # fmt: skip


def test_what_counts_as_a_metric() -> None:
    """Numbers of any kind, nested ones by path; not text, and not where the row comes from."""
    import numpy as np

    told = analysis(
        {
            "a": 1,
            "b": {"c": np.float32(0.5), "d": {"e": True}, "t": "x"},
            "n": np.int64(3),
            "text": "x",
            "none": None,
            "list": [1],
            "pid": 7,
            "timestamp": 1,
            "config": {"lr": 0.1},
            "complex": 1j,
        }
    )
    assert set(told) == {"a", "b/c", "b/d/e", "n"}


def test_nan_never_wins() -> None:
    """One bad row hides neither the best before nor the best after it."""
    told = analysis({"x": 2.0}, {"x": math.nan}, {"x": 1.0})["x"]
    assert (told["max"], told["min"], told["last"]) == (2.0, 1.0, 1.0)
    assert math.isnan(told["avg"])
    told = analysis({"x": math.nan}, {"x": 1.0})["x"]
    assert (told["max"], told["min"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"a": 1, "config": {"x": 1, "y": [1]}},
        {"a": {"b": {"c": 1}}, "d": {}},
        {"a": {}, "b": None, 3: {4: 5}},
    ],
)
def test_flat_rows(row: dict[Any, Any]) -> None:
    """The quick way agrees with the one that users know."""
    assert flatten(row) == flatten_dict(row)


_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda inner: st.dictionaries(st.text("ab/", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(row=st.dictionaries(st.text("abc", min_size=1, max_size=2), _values, max_size=4))
def test_the_quick_way_is_the_same(row: dict[str, Any]) -> None:
    """Whatever is nested in whatever."""
    assert flatten(row) == flatten_dict(row)
