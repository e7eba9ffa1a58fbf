"""Values that training hands to scripts: reported checkpoints, preemption, datasets."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from milepost.api import preemption
from milepost.train import (
    TRAIN_DATASET_KEY,
    Checkpoint,
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    DataConfig,
    PreemptionInfo,
    ReportedCheckpoint,
    ReportedCheckpointStatus,
)

ENUMS = [
    (CheckpointUploadMode, "ASYNC SYNC NO_UPLOAD"),
    (CheckpointConsistencyMode, "COMMITTED VALIDATED"),
    (
        ReportedCheckpointStatus,
        "COMMITTED PENDING_VALIDATION VALIDATED VALIDATION_TIMEOUT VALIDATION_FAILED",
    ),
]


@pytest.mark.parametrize(("kind", "names"), ENUMS)
def test_members(kind: Any, names: str) -> None:
    """Members are those of Ray, each with its name as its value."""
    assert [(member.name, member.value) for member in kind] == [(n, n) for n in names.split()]
    assert [pickle.loads(pickle.dumps(member)) for member in kind] == list(kind)


@pytest.mark.parametrize(
    ("mode", "deletes"), [("ASYNC", True), ("SYNC", False), ("NO_UPLOAD", False)]
)
def test_who_deletes_the_local_directory(mode: str, deletes: bool) -> None:
    """Only a checkpoint that goes to storage later is deleted by us, unless told otherwise."""
    assert CheckpointUploadMode[mode].default_delete_local_checkpoint_after_upload() is deletes


def test_reported_checkpoints() -> None:
    """A reported checkpoint has Ray's three fields, in its order."""
    checkpoint = Checkpoint("/srv/x/checkpoint_000000")
    status = ReportedCheckpointStatus.VALIDATED
    reported = ReportedCheckpoint(checkpoint, {"loss": 1}, status)
    assert (reported.checkpoint, reported.metrics, reported.status) == (
        checkpoint,
        {"loss": 1},
        status,
    )
    assert repr(pickle.loads(pickle.dumps(reported))) == repr(reported)


def test_preemption_of_workers() -> None:
    """It has Ray's arguments and properties, and what trials are told as well."""
    info = PreemptionInfo(5, {"node-b": [3, 2], "node-a": [0]})
    assert info == PreemptionInfo(
        deadline_ms=5, preempted_node_to_ranks={**info.preempted_node_to_ranks}
    )
    assert info.preempted_node_ids == ["node-a", "node-b"]
    assert info.preempted_ranks == [0, 2, 3]
    assert (info.reason, info.remaining_s) == ("", 0)
    assert isinstance(info, preemption.PreemptionInfo)
    assert pickle.loads(pickle.dumps(info)) == info == eval(repr(info))


def test_preemption_without_a_deadline() -> None:
    """An unknown deadline is None; a known one counts down."""
    assert PreemptionInfo(None, {}, reason="SIGTERM").remaining_s is None
    left = PreemptionInfo(round(time.time() * 1000) + 600_000, {}).remaining_s
    assert left is not None
    assert 0 < left < 601
    with pytest.raises(AttributeError):
        PreemptionInfo(None, {}).deadline_ms = 1


class Rows:
    """A dataset with the two methods of Ray Data."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def streaming_split(
        self, n: int, *, equal: bool, locality_hints: list[str] | None
    ) -> list[tuple[list[int], bool, list[str] | None]]:
        return [(self.rows[rank::n], equal, locality_hints) for rank in range(n)]

    def iterator(self) -> list[int]:
        return list(self.rows)


def handed(config: DataConfig, **datasets: Any) -> list[dict[str, Any]]:
    return config.configure(datasets, 2, worker_handles=None, worker_node_ids=["a", "b"])


def test_all_datasets_are_split_by_default() -> None:
    """Each worker gets an equal part, near to it."""
    hints = ["a", "b"]
    assert handed(DataConfig(), train=Rows([1, 2, 3, 4])) == [
        {TRAIN_DATASET_KEY: ([1, 3], True, hints)},
        {TRAIN_DATASET_KEY: ([2, 4], True, hints)},
    ]


def test_locality_can_be_switched_off() -> None:
    """Then nothing is said about where parts should go."""
    first, _ = handed(DataConfig(enable_shard_locality=False), train=Rows([1, 2]))
    assert first == {"train": ([1], True, None)}


@pytest.mark.parametrize("names", [["train"], ("train",)])
def test_datasets_that_are_not_split(names: Any) -> None:
    """Each worker sees the whole of those that are not named, through an iterator of its own."""
    first, second = handed(DataConfig(names), train=Rows([1, 2]), valid=Rows([3, 4]))
    assert (first["train"][0], second["train"][0]) == ([1], [2])
    assert first["valid"] == second["valid"] == [3, 4]
    assert first["valid"] is not second["valid"]


def test_no_dataset_is_split() -> None:
    """An empty list splits none."""
    assert handed(DataConfig([]), train=Rows([1])) == [{"train": [1]}, {"train": [1]}]


WRONG = [
    ({"datasets_to_split": "train"}, TypeError, r"got 'train' \(str\)"),
    ({"datasets_to_split": [1]}, TypeError, r"got \[1\]"),
    ({"datasets_to_split": None}, TypeError, "got None"),
    ({"datasets_to_splt": []}, TypeError, "Did you mean 'datasets_to_split'"),
    ({"execution_options": {"cpu": 1}}, ValueError, "cannot take effect.*got {'cpu': 1}"),
    ({"enable_shard_locality": "no"}, TypeError, "got 'no'"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
def test_wrong_data_configs(given: dict[str, Any], error: type, message: str) -> None:
    """What cannot take effect raises where it is written."""
    with pytest.raises(error, match=message):
        DataConfig(**given)


def test_a_dataset_that_is_not_there() -> None:
    """A misspelt name of a dataset would leave it whole; it is an error with the closest one."""
    with pytest.raises(ValueError, match=r"names 'trian'.*Did you mean 'train'"):
        handed(DataConfig(["trian"]), train=Rows([1]))


@pytest.mark.parametrize(
    ("config", "lacks"), [(DataConfig(), "streaming_split"), (DataConfig([]), "iterator")]
)
def test_datasets_that_cannot_be_handed_out(config: DataConfig, lacks: str) -> None:
    """A dataset of another kind is named, with what it lacks."""
    with pytest.raises(TypeError, match=rf"'train' is a list, which has no {lacks}\(\)"):
        handed(config, train=[1, 2])


def test_what_a_data_config_is() -> None:
    """Its repr makes it again, and it pickles."""
    config = DataConfig(["train"], enable_shard_locality=False)
    shown = "DataConfig(datasets_to_split=['train'], enable_shard_locality=False)"
    assert repr(config) == repr(pickle.loads(pickle.dumps(config))) == repr(eval(shown)) == shown
