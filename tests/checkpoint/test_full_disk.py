from __future__ import annotations

import errno
import os
import shutil

import pytest

from milepost.checkpoint import collect, verify
from milepost.checkpoint.commit import commit
from milepost.checkpoint.handle import Checkpoint
from milepost.checkpoint.manifest import Manifest
from milepost.testing.mounts import MountUnavailableError, mounted


@pytest.fixture
def disk(tmp_path):
    """A disk of one mebibyte."""
    try:
        with mounted("tmpfs", str(tmp_path), 1 << 20) as path:
            yield path
    except MountUnavailableError as reason:
        pytest.skip(str(reason))


def fill(disk: str, leave: int) -> str:
    """Write a file that leaves so many bytes free."""
    path = os.path.join(disk, "ballast")
    info = os.statvfs(disk)
    with open(path, "wb") as file:
        file.write(b"\0" * (info.f_bavail * info.f_frsize - leave))
    return path


def test_full_disk(disk, stage):
    """No room is an error with its number; what was committed stays whole; room makes it work."""
    trial = os.path.join(disk, "experiment", "trial")
    os.makedirs(trial)
    first, second = stage(trial, 0), stage(trial, 1)
    assert commit([first]) == [first.manifest]
    ballast = fill(disk, leave=0)
    (outcome,) = commit([second])
    assert isinstance(outcome, OSError)
    assert outcome.errno == errno.ENOSPC
    assert "earlier checkpoints are intact" in outcome.__notes__[0]
    assert verify.check(first.target, digests=True) == []
    assert not os.path.exists(second.target)

    checkpoint = Checkpoint.from_directory(first.target)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.set_metadata({"a": "b" * 10_000})
    with pytest.raises(OSError, match="No space left"):
        checkpoint.to_directory(os.path.join(disk, "copy"))
    assert not os.path.exists(os.path.join(disk, "copy"))
    assert sorted(os.listdir(first.target)) == [".milepost.json", "model.bin", "state"]

    assert collect.retire(first.target) is collect.Retirement.DELETED, "deleting needs no room"
    os.unlink(ballast)
    (outcome,) = commit([second])
    assert isinstance(outcome, Manifest)
    assert verify.check(second.target, digests=True) == []


def test_many_checkpoints_on_a_small_disk(disk, stage):
    """When each goes after the next has come, a disk for two of them takes any number."""
    trial = os.path.join(disk, "experiment", "trial")
    os.makedirs(trial)
    size = shutil.disk_usage(disk).free // 3
    for index in range(30):
        item = stage(trial, index, {"model.bin": bytes([index]) * size})
        assert commit([item]) == [item.manifest]
        if index:
            previous = os.path.join(trial, f"checkpoint_{index - 1:06d}")
            assert collect.retire(previous) is collect.Retirement.DELETED
    assert os.listdir(trial) == ["checkpoint_000029"]
