"""What Ray's page on ``ray.train.CheckpointConfig`` says, tried with trainers in scripts.

The page has a signature and a paragraph for each parameter; each test is about one of them.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest

from milepost import train, tune

DEFAULTS = {
    "num_to_keep": None,
    "checkpoint_score_attribute": None,
    "checkpoint_score_order": "max",
    "checkpoint_frequency": 0,
    "checkpoint_at_end": None,
    "_checkpoint_keep_all_ranks": "DEPRECATED",
    "_checkpoint_upload_from_workers": "DEPRECATED",
}

SCRIPT = """
import json
import os
import tempfile

import milepost.train
from milepost.train import Checkpoint, CheckpointConfig, DataParallelTrainer, RunConfig

ACCURACY = ACCURACIES


def train_loop_per_worker(config):
    seen = []
    for epoch, accuracy in enumerate(ACCURACY):
        with tempfile.TemporaryDirectory() as tmpdir:
            with open(f"{tmpdir}/model", "w") as file:
                file.write(str(epoch))
            milepost.train.report(
                {"accuracy": accuracy, "valid": {"accuracy": accuracy}},
                checkpoint=Checkpoint.from_directory(tmpdir),
            )
        seen.append(len(milepost.train.get_all_reported_checkpoints()))
    return seen


for options in OPTIONS:
    result = DataParallelTrainer(
        train_loop_per_worker,
        run_config=RunConfig(checkpoint_config=CheckpointConfig(**options)),
    ).fit()
    print("RESULT", json.dumps({
        "kept": sorted(int(name[-6:]) for name in os.listdir(result.path) if "checkpoint_" in name),
        "best": [int(checkpoint.path[-6:]) for checkpoint, _ in result.best_checkpoints],
        "latest": int(result.checkpoint.path[-6:]),
        "seen": result.return_value,
    }))
"""


def results(place: Any, accuracies: str, *options: dict[str, Any]) -> list[dict[str, Any]]:
    """What is left of runs with each of some options, whose checkpoints had these accuracies."""
    code = SCRIPT.replace("ACCURACIES", accuracies).replace("OPTIONS", repr(options))
    lines = place.script(code).splitlines()
    return [json.loads(each[7:]) for each in lines if each.startswith("RESULT ")]


def test_the_signature() -> None:
    """Parameters, their order, defaults and attributes; those with an underscore are no others."""
    parameters = inspect.signature(train.CheckpointConfig).parameters
    assert {name: one.default for name, one in parameters.items()} == DEFAULTS
    assert list(parameters) == list(DEFAULTS)
    made = train.CheckpointConfig()
    assert {name: getattr(made, name) for name in DEFAULTS} == DEFAULTS
    assert [field.name for field in dataclasses.fields(made)] == list(DEFAULTS)
    assert train.CheckpointConfig(2, "loss", "min").checkpoint_score_order == "min"


def test_how_many_are_kept(place: Any) -> None:
    """All by default; with num_to_keep the newest, one going whenever there is one too many."""
    every, newest, one = results(place, "[3, 1, 2, 0]", {}, {"num_to_keep": 2}, {"num_to_keep": 1})
    assert every["kept"] == every["best"] == [0, 1, 2, 3]
    assert newest["kept"] == newest["best"] == [2, 3]
    assert one["kept"] == one["best"] == [3]
    assert [each["seen"] for each in (every, newest, one)] == [
        [1, 2, 3, 4],
        [1, 2, 2, 2],
        [1, 1, 1, 1],
    ]
    assert [each["latest"] for each in (every, newest, one)] == [3, 3, 3]


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one_is_kept(number: int) -> None:
    """A smaller number is an error where it is written."""
    with pytest.raises(ValueError, match=f"num_to_keep must be at least 1, got {number}"):
        train.CheckpointConfig(num_to_keep=number)


def test_which_are_kept(place: Any) -> None:
    """Those with the highest score, or with "min" the lowest, and always the latest.

    The score is a key of what was reported with the checkpoint, also a nested one.
    """
    by = {"num_to_keep": 2, "checkpoint_score_attribute": "accuracy"}
    found = results(
        place,
        "[3, 0, 1, 5, 2]",
        by,
        {**by, "checkpoint_score_order": "max", "checkpoint_score_attribute": "valid/accuracy"},
        {**by, "checkpoint_score_order": "min"},
        {"checkpoint_score_attribute": "accuracy"},
    )
    assert [each["best"] for each in found] == [[0, 3], [0, 3], [2, 1], [1, 2, 4, 0, 3]]
    assert [each["kept"] for each in found] == [[0, 3, 4], [0, 3, 4], [1, 2, 4], [0, 1, 2, 3, 4]]
    assert {each["latest"] for each in found} == {4}


def test_scores_that_are_no_numbers(place: Any) -> None:
    """Text, None, NaN or nothing at all rank below every number, for "min" as well."""
    by = {"num_to_keep": 2, "checkpoint_score_attribute": "accuracy"}
    values = '["high", 1, None, float("nan"), 2, "low"]'
    highest, lowest, missing = results(
        place,
        values,
        by,
        {**by, "checkpoint_score_order": "min"},
        {**by, "checkpoint_score_attribute": "acuracy", "checkpoint_score_order": "min"},
    )
    assert (highest["best"], lowest["best"]) == ([1, 4], [4, 1])
    assert highest["kept"] == lowest["kept"] == [1, 4, 5]
    assert missing["kept"] == [4, 5]


def test_other_orders() -> None:
    """Only the two exist."""
    with pytest.raises(ValueError, match="must be 'max' or 'min', got 'highest'"):
        train.CheckpointConfig(checkpoint_score_order="highest")


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"checkpoint_frequency": 2}, "leave checkpoint_frequency out"),
        ({"checkpoint_at_end": True}, "leave checkpoint_at_end out"),
    ],
)
def test_options_for_who_brings_no_loop(option: dict[str, Any], advice: str) -> None:
    """A trainer with a loop of the user's refuses them; what they are anyway may be said."""

    def trainer(**options: Any) -> Any:
        config = train.RunConfig(checkpoint_config=train.CheckpointConfig(**options))
        return train.DataParallelTrainer(lambda: None, run_config=config)

    with pytest.raises(DeprecationWarning, match=advice):
        trainer(**option)
    assert trainer(checkpoint_frequency=0, checkpoint_at_end=False).name
    assert train.CheckpointConfig is tune.CheckpointConfig  # and class trainables make use of them


@pytest.mark.parametrize("value", [True, False, None])
@pytest.mark.parametrize("name", ["_checkpoint_keep_all_ranks", "_checkpoint_upload_from_workers"])
def test_options_that_are_gone(name: str, value: Any) -> None:
    """Any value of them raises, with what to do instead."""
    with pytest.raises(DeprecationWarning, match=f"{name} has no effect any more"):
        train.CheckpointConfig(**{name: value})


RANKS = """
import os
import tempfile

import milepost.train
from milepost.train import Checkpoint, DataParallelTrainer, ScalingConfig


def train_loop_per_worker(config):
    rank = milepost.train.get_context().get_world_rank()
    for saving in (lambda rank: rank == 0, lambda rank: rank != 1, lambda rank: True):
        with tempfile.TemporaryDirectory() as tmpdir:
            open(f"{tmpdir}/of-{rank}", "w").close()
            checkpoint = Checkpoint.from_directory(tmpdir) if saving(rank) else None
            milepost.train.report({"rank": rank}, checkpoint=checkpoint)


result = DataParallelTrainer(
    train_loop_per_worker,
    scaling_config=ScalingConfig(num_workers=3, resources_per_worker={"CPU": 0.5}),
).fit()
for checkpoint, metrics in result.best_checkpoints:
    files = [name for name in os.listdir(checkpoint.path) if name.startswith("of-")]
    print("FILES", metrics["rank"], *sorted(files))
"""


def test_who_saves(place: Any) -> None:
    """Workers that should not save report None; a checkpoint has the files of those that do."""
    lines = [line for line in place.script(RANKS).splitlines() if line.startswith("FILES")]
    assert lines == ["FILES 0 of-0", "FILES 0 of-0 of-2", "FILES 0 of-0 of-1 of-2"]
