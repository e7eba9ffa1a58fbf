"""What a trial's directory holds, compared with what the journal says."""

from __future__ import annotations

import msgspec
import pytest

from milepost.checkpoint.manifest import Manifest
from milepost.control import reconciling
from milepost.control.checkpoints import Checkpoint
from milepost.control.reconciling import Holdings
from milepost.journal.image import CheckpointImage, TrialImage

RAW = msgspec.Raw(b"{}")


@pytest.mark.parametrize(
    ("own", "others", "highest"),
    [
        ({}, [], -1),
        ({}, ["result.json", "checkpoint_000007", "checkpoint_12"], 7),
        ({2: "best"}, ["checkpoint_000001"], 2),
        ({2: "checkpoint_20261122"}, [], 2),
        ({2: "best"}, ["checkpoint_20261122"], 20261122),
        ({}, ["checkpoint_" + "9" * 30], -1),
    ],
)
def test_numbers_in_use(own: dict[int, str], others: list[str], highest: int) -> None:
    """A name of its own says nothing of a number; one of whatever else is there may."""
    found = {i: Manifest(id=f"x-{i}", trial="t", index=i, dir_name=n) for i, n in own.items()}
    assert Holdings(found, frozenset([*own.values(), *others])).highest == highest


def test_adopted_and_missing_ones_have_their_names() -> None:
    """A commit that was not recorded is told with its path; one that is gone says what is."""
    trial = TrialImage(
        trial="t",
        name="t",
        directory="t",
        tag="",
        order=0,
        config=RAW,
        evaluated=RAW,
        resources=RAW,
        next_index=3,
        captured={2: CheckpointImage(index=2, attempt=0)},
    )
    recorded = [
        Checkpoint(index=0, path="/exp/t/gone", iteration=1, row=RAW),
        Checkpoint(index=1, path="/exp/t/damaged", iteration=1, row=RAW),
    ]
    new = Manifest(id="x-2", trial="t", index=2, dir_name="new")
    there = Holdings({2: new}, frozenset(["damaged", "new"]))
    found = reconciling.reconcile(trial, recorded, {}, there)
    assert found.adopted == (2,)
    assert found.missing == (
        (0, "its directory is gone"),
        (1, "its manifest is missing or damaged"),
    )
    assert reconciling.commit_of("/exp/t", new, 0.0, None).path == "/exp/t/new"
