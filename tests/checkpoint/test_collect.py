from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from milepost.checkpoint import collect
from milepost.checkpoint.collect import Retirement, retire, sweep
from milepost.errors import CheckpointError
from milepost.storage import names
from milepost.testing.interposer import Fault, Interposer


def test_retire_order(trial, save):
    """It disappears by a rename, durably, before any of its bytes goes."""
    directory = save(trial, 0)
    with Interposer() as steps:
        assert retire(directory) is Retirement.DELETED
    operations = [step.operation for step in steps.steps]
    assert operations[:2] == ["rename_noreplace", "fsync_dir"]
    assert set(operations[2:]) == {"unlink", "rmdir"}
    assert os.listdir(trial) == []


def test_retire_twice(trial, save):
    """What is gone already is done."""
    directory = save(trial, 0)
    assert retire(directory) is Retirement.DELETED
    assert retire(directory) is Retirement.GONE


def test_foreign_directories_are_not_deleted(trial):
    """A directory without manifest is not ours, whatever its name."""
    path = Path(trial, "checkpoint_000003")
    path.mkdir()
    (path / "mine").write_text("precious")
    with pytest.raises(CheckpointError, match="does not delete it"):
        retire(str(path))
    assert (path / "mine").read_text() == "precious"


def test_one_undeletable_file_does_not_matter(trial, save, caplog):
    """When a byte cannot be removed the checkpoint is deleted all the same; a sweep tries again."""
    directory = save(trial, 0)
    with Interposer(Fault("eio", 3)):
        assert retire(directory) is Retirement.DELETED
    (left,) = os.listdir(trial)
    assert left.startswith(".milepost-trash-checkpoint_000000-")
    assert "left for the next sweep" in caplog.text
    assert sweep(trial) == [left]
    assert os.listdir(trial) == []


def test_read_only_checkpoints_can_be_deleted(trial, save):
    """Files shared between checkpoints are read-only, and so may be directories."""
    directory = save(trial, 0)
    os.chmod(os.path.join(directory, ".milepost.json"), 0o444)
    os.chmod(os.path.join(directory, "state"), 0o555)
    assert retire(directory) is Retirement.DELETED
    assert os.listdir(trial) == []


def test_links_are_not_followed(trial, save, tmp_path):
    """Deleting removes a link, not what it leads to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    directory = save(trial, 0)
    os.symlink(precious, os.path.join(directory, "link"))
    os.symlink(precious, os.path.join(trial, ".milepost-tmp-link"))
    assert retire(directory) is Retirement.DELETED
    assert sweep(trial) == [".milepost-tmp-link"]
    assert os.listdir(precious) == ["file"]


def test_sweep_touches_its_own_names_only(trial, save):
    """Unfinished and half-deleted trees go; everything else stays."""
    save(trial, 0)
    keep = ["checkpoint_000001", ".milepost-quarantine-x", ".milepost", "result.json", ".hidden"]
    for name in [*keep, ".milepost-tmp-a", ".milepost-trash-b"]:
        os.makedirs(os.path.join(trial, name, "inner"))
    Path(trial, ".milepost-tmp-file").touch()
    assert sweep(trial) == [".milepost-tmp-a", ".milepost-tmp-file", ".milepost-trash-b"]
    assert sorted(os.listdir(trial)) == sorted([*keep, "checkpoint_000000"])
    assert sweep(trial) == []
    shutil.rmtree(trial)
    assert sweep(trial) == []


def test_sweep_leaves_what_a_live_process_writes(trial):
    """A draft belongs to its process while that lives; whoever comes after its end removes it."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours = os.path.basename(names.temporary(trial, "x"))
    theirs = ours.replace(f".{os.getpid()}", f".{other.pid}")
    for name in (ours, theirs):
        Path(trial, name).touch()
    assert sweep(trial) == [ours]
    assert other.stdin is not None
    other.stdin.close()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert sweep(trial) == [theirs]
    other.wait()


def test_without_locks_it_is_deleted(trial, save, monkeypatch):
    """Where the file system has no locks a disk must not fill for that reason."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(collect.fcntl, "flock", refuse)
    assert retire(save(trial, 0)) is Retirement.DELETED


def test_other_lock_errors_are_errors(trial, save, monkeypatch):
    """What is not understood deletes nothing."""
    directory = save(trial, 0)

    def refuse(fd: int, operation: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(collect.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"):
        retire(directory)
    assert os.listdir(trial) == ["checkpoint_000000"]
