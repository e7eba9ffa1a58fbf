"""Metrics as training loops have them: NaN, infinity, numpy's scalars and arrays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loops import begun, part, rank, trainer

from milepost import train
from milepost.train import Result


def values(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "float32": np.float32(step),
        "int64": np.int64(step),
        "bool": np.bool_(step > 1),
        "nan": float("nan"),
        "numpy_nan": np.float64("nan"),
        "infinite": -np.inf,
        "array": np.arange(3, dtype=np.float32) * step,
        "deep": {"array": np.full((2, 2), step, dtype=np.int8), "list": [np.float16(0.5), None]},
    }


def assert_same(found: Any, expected: Any) -> None:
    """Equal values of equal types, with NaN equal to NaN."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif expected is not None:
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(found, expected)


def loop(config: dict[str, Any]) -> int:
    start = begun()
    for step in range(start + 1, config["steps"] + 1):
        saved = part(step=str(step)) if config["saves"] and rank() == 0 else None
        train.report(values(step), checkpoint=saved)
    return start


@pytest.mark.parametrize("saves", [True, False])
def test_values_of_every_kind(tmp_path: Path, saves: bool) -> None:
    """They come back as they were, and from the run's files as plain numbers and lists."""
    config = {"steps": 2, "saves": saves}
    result = trainer(tmp_path, loop, train_loop_config=config).fit()
    assert_same({name: result.metrics[name] for name in values(2)}, values(2))
    table = result.metrics_dataframe
    assert list(table["float32"]) == [1.0, 2.0]
    assert list(table["array"]) == [[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]]
    assert table["nan"].isna().all()
    assert (table["infinite"] == -np.inf).all()
    read = Result.from_path(str(tmp_path / "run"))
    assert (read.metrics["int64"], read.metrics["array"]) == (2, [0.0, 2.0, 4.0])
    assert np.isnan(read.metrics["numpy_nan"])
    if not saves:
        assert result.checkpoint is read.checkpoint is None
        assert result.best_checkpoints == []
        return
    for step, (_, row) in enumerate(result.best_checkpoints, start=1):
        assert_same({name: row[name] for name in values(step)}, values(step))
    for step, (_, row) in enumerate(read.best_checkpoints, start=1):
        assert (row["float32"], row["array"]) == (step, [0.0, step, 2.0 * step])
        assert row["deep"] == {"array": [[step, step], [step, step]], "list": [0.5, None]}
    again = trainer(tmp_path, loop, train_loop_config={"steps": 3, "saves": True}).fit()
    assert again.return_value == 2
    assert_same(again.best_checkpoints[0][1]["deep"], values(1)["deep"])


def test_reports_after_the_last_checkpoint(tmp_path: Path) -> None:
    """The result has the metrics of the last report, and the checkpoint of an earlier one."""

    def some() -> None:
        for step in (1, 2, 3):
            train.report({"step": step}, checkpoint=part() if step == 1 and rank() == 0 else None)

    for result in (trainer(tmp_path, some).fit(), Result.from_path(str(tmp_path / "run"))):
        assert result.metrics["step"] == 3
        assert result.checkpoint.path.endswith("checkpoint_000000")
        assert [row["step"] for _, row in result.best_checkpoints] == [1]


@pytest.mark.parametrize(
    ("removed", "start"), [([2], 2), ([1, 2], 1), ([0], 3), ([0, 1, 2], 0)], ids=str
)
@pytest.mark.always("[1, 2]-1")
def test_checkpoints_removed_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, removed: list[int], start: int
) -> None:
    """The run goes on from the newest that is left, or from the beginning, and says so."""
    config = {"steps": 3, "saves": True}
    trainer(tmp_path, loop, train_loop_config=config).fit()
    for index in removed:
        shutil.rmtree(tmp_path / "run" / f"checkpoint_{index:06d}")
    again = trainer(tmp_path, loop, train_loop_config={**config, "steps": 4}).fit()
    assert again.return_value == start
    assert [row["step"] for _, row in again.best_checkpoints] == [
        *(step for step in (1, 2, 3) if step - 1 not in removed and step <= start),
        *range(start + 1, 5),
    ]
    names = ", ".join(f"run {index:06d}" for index in removed)
    (told,) = (one for one in caplog.records if "on record, but gone or damaged" in one.message)
    assert told.levelname == "WARNING"
    assert names in told.message
