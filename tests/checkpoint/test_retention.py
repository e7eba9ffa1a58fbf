from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.api.nested import flatten_dict
from milepost.checkpoint.retention import (
    AnyOf,
    BestN,
    Entry,
    EveryNIterations,
    EveryNSeconds,
    KeepAll,
    LatestN,
    TimeToLive,
    explain,
    from_config,
    plan,
    ranked,
)

MISSING = object()
NAN = math.nan


def entries(*values: object, metric: str = "acc") -> list[Entry]:
    return [
        Entry(index, index + 1, 10.0 * index, {} if value is MISSING else {metric: value})
        for index, value in enumerate(values)
    ]


def applied(values: list[object], policy, pins=None) -> list[int]:
    """Commit one by one, deleting at once what may go; return what is kept."""
    kept: list[Entry] = []
    for entry in entries(*values):
        kept.append(entry)
        decided = plan(kept, policy, pins, now=entry.time)
        kept = [other for other in kept if other.index in decided.keep]
    return [entry.index for entry in kept]


@pytest.mark.parametrize(
    ("values", "order", "keep", "disk"),
    [
        ([1, 3, 2, 0], "max", 2, [1, 2, 3]),
        ([1, 1, 1, 1], "max", 2, [2, 3]),
        ([5, NAN, 2, 1], "max", 2, [0, 2, 3]),
        ([5, MISSING, 2, 1], "max", 2, [0, 2, 3]),  # Ray keeps the one without a score as best
        ([5, MISSING, 2, 1], "min", 2, [2, 3]),
        ([5, 6], "min", 1, [0, 1]),
        ([5, 6, 4], "min", 1, [2]),
        ([1, 2, 9, 9.5, 3], "min", 2, [0, 1, 4]),
        ([math.inf, 1, -math.inf], "max", 1, [0, 2]),
        ([NAN, NAN, NAN], "max", 1, [2]),
        ([NAN, 0, NAN], "max", 1, [1, 2]),
        ([0, NAN], "max", 1, [0, 1]),
        ([None, "9", True, [3], 1, 0], "max", 1, [4, 5]),
        ([True, False, 0], "max", 1, [2]),
        ([Decimal(9), 1, 0], "max", 1, [1, 2]),
        ([np.float32(2), np.int64(3), np.bool_(True), 0], "max", 1, [1, 3]),
        ([10**400, 1.0, 2], "max", 1, [0, 2]),
    ],
)
def test_best(values, order, keep, disk):
    """The best K and the latest stay; what has no valid score never wins and never leaks."""
    assert applied(values, BestN("acc", order, keep)) == disk


@pytest.mark.parametrize(
    ("config", "values", "disk"),
    [
        ((None, None, "max"), [1, 2, 3], [0, 1, 2]),
        ((None, "acc", "max"), [1, 2, 3], [0, 1, 2]),
        ((1, None, "max"), [3, 2, 1], [2]),
        ((2, None, "min"), [3, 2, 1], [1, 2]),
        ((1, "acc", "max"), [3, 2, 1], [0, 2]),
        ((1, "acc", "min"), [3, 2, 1], [2]),
        ((1, "acc", None), [3, 2, 1], [0, 2]),
    ],
)
def test_from_config(config, values, disk):
    """The fields of CheckpointConfig mean what their documentation says."""
    assert applied(values, from_config(*config)) == disk


def test_nested_score():
    """A nested metric is found by its flat name; a name spelt with a slash works as well."""
    rows = [{"val": {"loss": 1.0}}, {"val/loss": 0.5}, {"val": {"loss": 2.0}}]
    made = [Entry(index, metrics=flatten_dict(row)) for index, row in enumerate(rows)]
    assert plan(made, BestN("val/loss", "min")).keep == (1, 2)


def test_ranking():
    """Ascending goodness; without a valid score first; of equals the newer is better."""
    made = entries(1, NAN, 3, 1, None, 3)
    assert [entry.index for entry in ranked(made, "acc", "max")] == [1, 4, 0, 3, 2, 5]
    assert [entry.index for entry in ranked(made, "acc", "min")] == [1, 4, 2, 5, 0, 3]
    assert [entry.index for entry in ranked(reversed(made), None)] == [0, 1, 2, 3, 4, 5]


def test_order_is_by_index_not_by_time():
    """A reused directory with later times does not make its checkpoints the latest."""
    made = [Entry(700, time=1.0), Entry(100, time=9.0), Entry(9999, time=0.0), Entry(10100)]
    assert plan(made, LatestN(2)).keep == (9999, 10100)


@pytest.mark.parametrize(
    ("policy", "keep"),
    [
        (KeepAll(), [0, 1, 2, 3, 4, 5]),
        (LatestN(2), [4, 5]),
        (LatestN(99), [0, 1, 2, 3, 4, 5]),
        (EveryNIterations(2), [1, 3, 5]),
        (EveryNIterations(4), [3, 5]),
        (EveryNIterations(100), [5]),
        (EveryNSeconds(20), [0, 2, 4, 5]),
        (EveryNSeconds(15), [0, 2, 4, 5]),
        (TimeToLive(25), [3, 4, 5]),
        (AnyOf((LatestN(1), EveryNIterations(3))), [2, 5]),
        (AnyOf(()), [5]),
    ],
)
def test_policies(policy, keep):
    """Each policy by itself, over six checkpoints at iterations 1 to 6, ten seconds apart."""
    decided = plan(entries(*range(6)), policy, now=50.0)
    assert decided.keep == tuple(keep)
    assert decided.drop == tuple(sorted(set(range(6)) - set(keep)))


def test_irregular_iterations():
    """One per interval is kept also when no checkpoint falls on a multiple."""
    made = [Entry(index, iteration) for index, iteration in enumerate([4, 8, 12, 16, 20, 24, 45])]
    assert plan(made, EveryNIterations(10)).keep == (2, 4, 6)


def test_pins_and_reasons():
    """A pinned checkpoint stays, and every decision has a reason that people can read."""
    decided = plan(entries(1, 5, 3, 2), BestN("acc"), {0: "trial b started from it", 77: "gone"})
    assert decided.keep == (0, 1, 3)
    assert explain(decided) == [
        "checkpoint 000000 stays: pinned: trial b started from it",
        "checkpoint 000001 stays: one of the best 1 by 'acc' (max): 5",
        "checkpoint 000002 goes: not kept by BestN(metric='acc', order='max', count=1)",
        "checkpoint 000003 stays: the latest checkpoint is always kept",
    ]


def test_nothing_to_decide():
    """No checkpoints, no decision."""
    decided = plan([], LatestN(1), {3: "pin"})
    assert (decided.keep, decided.drop, explain(decided)) == ((), (), [])


@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(), st.integers(-3, 3), st.booleans(), st.text(max_size=1)),
        min_size=1,
        max_size=12,
    ),
    order=st.sampled_from(["max", "min"]),
    keep=st.integers(1, 4),
    pinned=st.sets(st.integers(0, 12)),
)
def test_deleting_step_by_step_loses_nothing(values, order, keep, pinned):
    """Deciding after each commit keeps what deciding once at the end would keep, and no more than
    K, the latest and the pins.
    """
    policy = BestN("acc", order, keep)
    pins = dict.fromkeys(pinned, "test")
    kept = applied(values, policy, pins)
    at_once = plan(entries(*values), policy, pins)
    assert kept == list(at_once.keep)
    assert len(set(kept) - pinned) <= keep + 1
    assert kept[-1] == len(values) - 1
    assert set(at_once.keep) | set(at_once.drop) == set(range(len(values)))
    assert set(at_once.reasons) == set(range(len(values)))
