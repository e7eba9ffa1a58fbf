from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from milepost.checkpoint import commit as commits
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.commit import commit
from milepost.checkpoint.manifest import Manifest
from milepost.errors import LeaseLostError
from milepost.testing.interposer import Fault, Interposer


def operations(steps: Interposer) -> list[tuple[str, str]]:
    return [(step.operation, os.path.basename(step.paths[-1])) for step in steps.steps]


def test_single_commit_order(trial, stage):
    """Files, directories leaves first, manifest, then the rename, then the parents."""
    item = stage(trial, 0)
    with Interposer() as steps:
        assert commit([item]) == [item.manifest]
    staged = ".milepost-tmp-attempt-0"
    assert operations(steps) == [
        ("write_new", ".milepost.json"),
        ("fsync_file", ".milepost.json"),
        ("fsync_file", "model.bin"),
        ("fsync_file", "optimizer.bin"),
        ("fsync_dir", "state"),
        ("fsync_dir", staged),
        ("rename_noreplace", "checkpoint_000000"),
        ("fsync_dir", "experiment"),
        ("fsync_dir", "trial"),
    ]
    assert not os.path.exists(item.directory)
    assert verify.check(item.target, digests=True) == []


def test_group_commit_flushes_once(trial, stage):
    """Several small checkpoints share one syncfs before the renames and one flush per directory."""
    items = [stage(trial, index) for index in range(3)]
    with Interposer() as steps:
        outcomes = commit(items)
    assert outcomes == [item.manifest for item in items]
    assert [name for name, _ in operations(steps)] == (
        ["write_new"] * 3 + ["syncfs"] + ["rename_noreplace"] * 3 + ["fsync_dir"] * 2
    )


def test_many_files_alone_use_syncfs(trial, stage):
    """One checkpoint of very many small files is flushed by one syncfs."""
    item = stage(trial, 0, {f"f{number}": b"x" for number in range(commits.GROUP_FILES + 1)})
    with Interposer() as steps:
        commit([item])
    names = [name for name, _ in operations(steps)]
    assert names.count("syncfs") == 1
    assert "fsync_file" not in names


def test_large_group_is_flushed_by_file(trial, stage, monkeypatch):
    """A group of many bytes does not flush what the rest of the file system has in memory."""
    monkeypatch.setattr(commits, "GROUP_BYTES", 100)
    with Interposer() as steps:
        commit([stage(trial, index) for index in range(2)])
    names = [name for name, _ in operations(steps)]
    assert "syncfs" not in names
    assert names.count("fsync_file") == 6


def test_slow_syncfs_is_not_used_again(trial, stage, monkeypatch):
    """After a syncfs that took too long, files are flushed one by one for a while."""
    monkeypatch.setattr(commits, "SLOW_SYNC_S", -1.0)
    monkeypatch.setattr(commits, "_slow_until", {})
    with Interposer() as steps:
        commit([stage(trial, 0), stage(trial, 1)])
        commit([stage(trial, 2), stage(trial, 3)])
    names = [name for name, _ in operations(steps)]
    assert names.count("syncfs") == 1
    assert names.count("fsync_file") == 6


def test_failed_syncfs_falls_back_to_files(trial, stage):
    """A syncfs error may be about somebody else's file: ours are then flushed one by one."""
    items = [stage(trial, 0), stage(trial, 1)]
    with Interposer(Fault("eio", 3)) as steps:
        assert commit(items) == [item.manifest for item in items]
    assert [name for name, _ in operations(steps)].count("fsync_file") == 6


def test_target_is_never_replaced(trial, stage, save):
    """A directory under the final name stays as it is; the commit fails and says so."""
    save(trial, 0)
    other = stage(trial, 0, {"other": b"y"}, attempt="zombie")
    (outcome,) = commit([other])
    assert isinstance(outcome, FileExistsError)
    assert "not checkpoint zombie-0" in str(outcome)
    assert manifests.read(other.target).id == "attempt-0"
    assert os.path.isdir(other.directory)


@pytest.mark.parametrize("make", [os.mkdir, lambda path: Path(path).write_text("x")])
def test_empty_directory_or_file_at_target_is_kept(trial, stage, make):
    """An empty directory, which a plain rename would replace silently, and a file are conflicts."""
    item = stage(trial, 0)
    make(item.target)
    (outcome,) = commit([item])
    assert isinstance(outcome, FileExistsError)
    assert os.path.isdir(item.directory)


def test_repeated_commit_is_done(trial, stage):
    """Repeating a commit whose reply was lost succeeds, whether or not the staging still exists."""
    item = stage(trial, 0)
    assert commit([item]) == [item.manifest]
    assert commit([item]) == [item.manifest]
    again = stage(trial, 0)
    assert commit([again]) == [item.manifest]


def test_failure_of_one_item_leaves_the_others(trial, stage):
    """In a group, an item that cannot be committed is one exception among manifests."""
    items = [stage(trial, index) for index in range(3)]
    os.rename(items[1].directory, items[1].directory + ".gone")
    outcomes = commit(items)
    assert isinstance(outcomes[1], FileNotFoundError)
    assert "checkpoint_000001" in outcomes[1].__notes__[0]
    assert [outcomes[0], outcomes[2]] == [items[0].manifest, items[2].manifest]
    assert [index for index, _ in verify.committed(trial)] == [0, 2]


def test_fence_stops_publication(trial, stage):
    """An item whose fence raises stays staged; the fence is asked right before each rename."""
    items = [stage(trial, index) for index in range(3)]

    def fence(item):
        if item.manifest.index == 1:
            raise LeaseLostError("epoch 4 has begun")

    outcomes = commit(items, fence=fence)
    assert isinstance(outcomes[1], LeaseLostError)
    assert [index for index, _ in verify.committed(trial)] == [0, 2]
    assert os.path.isdir(items[1].directory)


def test_failed_parent_flush_is_reported(trial, stage):
    """A checkpoint is not called committed while its name may still be lost."""
    items = [stage(trial, 0), stage(trial, 1)]
    with Interposer() as counting:
        commit([stage(trial, 2), stage(trial, 3)])
    last_flush = counting.count
    with Interposer(Fault("eio", last_flush)):
        outcomes = commit(items)
    assert [getattr(outcome, "errno", None) for outcome in outcomes] == [errno.EIO, errno.EIO]
    assert outcomes[0] is not outcomes[1]


def test_old_manifest_in_the_source_is_replaced(trial, stage):
    """A directory that was copied from a checkpoint, manifest included, is a new checkpoint."""
    item = stage(trial, 1)
    Path(item.directory, ".milepost.json").write_bytes(
        manifests.to_bytes(Manifest(id="old-7", trial="t9", index=7))
    )
    assert commit([item]) == [item.manifest]
    assert manifests.read(item.target).id == "attempt-1"


def test_unexpected_errors_are_not_swallowed(trial, stage):
    """A bug is no outcome: what is neither an OSError nor ours goes through."""

    def fence(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commit([stage(trial, 0)], fence=fence)


def test_empty_batch():
    """Committing nothing is nothing."""
    assert commit([]) == []
