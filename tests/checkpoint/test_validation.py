"""What came of a validation, beside the manifest."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import validation
from milepost.checkpoint.manifest import Manifest
from milepost.checkpoint.tree import describe
from milepost.checkpoint.validation import OUTCOME_NAME, Outcome, Task

MINE = Manifest(id="a-0", trial="t", index=0, validation=Task(timeout_s=5))
GOOD = Outcome(status="VALIDATED", metrics=msgspec.Raw(b'{"score":1}'))


def test_it_is_there_or_pending(tmp_path: Path) -> None:
    """What was written is read, and replaced by what is written later."""
    assert validation.read(str(tmp_path), MINE) is None
    validation.write(str(tmp_path), MINE, Outcome(status="VALIDATION_FAILED", reason="why"))
    validation.write(str(tmp_path), MINE, GOOD)
    assert validation.read(str(tmp_path), MINE) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == [OUTCOME_NAME]


def test_that_of_another_checkpoint(tmp_path: Path) -> None:
    """It counts for nothing where its directory was reported once more, and is not part of it."""
    validation.write(str(tmp_path), MINE, GOOD)
    other = msgspec.structs.replace(MINE, id="b-0")
    assert validation.read(str(tmp_path), other) is None
    assert describe(str(tmp_path)).files == []


def test_a_damaged_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint counts as not validated, and the log says so."""
    validation.write(str(tmp_path), MINE, GOOD)
    with (tmp_path / OUTCOME_NAME).open("r+b") as file:
        file.truncate(20)
    with caplog.at_level(logging.WARNING):
        assert validation.read(str(tmp_path), MINE) is None
    assert "damaged" in caplog.text


def test_manifests() -> None:
    """They say how the checkpoint is validated; those of others are as they were before."""
    assert manifests.from_bytes(manifests.to_bytes(MINE)).task == Task(timeout_s=5)
    plain = Manifest(id="a-0", trial="t", index=0)
    assert b"validation" not in manifests.to_bytes(plain)
    assert manifests.from_bytes(manifests.to_bytes(plain)).task is None
