from __future__ import annotations

import contextlib
import os
import stat

import pytest

from milepost.checkpoint import collect, manifest, share, tree, verify
from milepost.checkpoint.commit import commit
from milepost.checkpoint.handle import Checkpoint
from milepost.checkpoint.share import share_unchanged
from milepost.storage import posix
from milepost.testing.interposer import EXIT_CODE, Fault, Interposer, run_in_child
from milepost.testing.mounts import MountUnavailableError, mounted

BIG = os.urandom(share.SHARE_BYTES)
FIRST = {"frozen/base.bin": BIG, "small": b"x", "head.bin": b"1" * share.SHARE_BYTES}
SECOND = {"renamed/base.bin": BIG, "small": b"x", "head.bin": b"2" * share.SHARE_BYTES}


@pytest.fixture(autouse=True)
def no_reflinks(request, monkeypatch):
    """As on file systems without reflinks, unless a test asks for the real thing."""
    if "real_reflinks" not in request.fixturenames:
        monkeypatch.setattr(share.posix, "reflink", lambda src, dst: False)


@pytest.fixture
def real_reflinks() -> None:
    """Leave reflinks as they are."""


def inode(*path: str) -> int:
    return os.stat(os.path.join(*path)).st_ino


def test_equal_files_are_one(trial, save, stage):
    """A large unchanged file, whatever its name, is stored once; changed and small ones are not."""
    before = save(trial, 0, FIRST)
    item = stage(trial, 1, SECOND)
    assert share_unchanged(item.directory, item.manifest.files, before, hard_links=True) == len(BIG)
    assert commit([item]) == [item.manifest]
    after = item.target
    assert inode(before, "frozen/base.bin") == inode(after, "renamed/base.bin")
    assert inode(before, "small") != inode(after, "small")
    for directory in (before, after):
        assert verify.check(directory, digests=True) == []
    shared = os.path.join(after, "renamed/base.bin")
    assert stat.S_IMODE(os.stat(shared).st_mode) == 0o444
    assert stat.S_IMODE(os.stat(os.path.join(after, "head.bin")).st_mode) == 0o644


def test_they_do_not_depend_on_each_other(trial, save, stage, tmp_path):
    """Deleting one leaves the other whole, and copies out of it are writable again."""
    before = save(trial, 0, FIRST)
    item = stage(trial, 1, SECOND)
    share_unchanged(item.directory, item.manifest.files, before, hard_links=True)
    commit([item])
    assert collect.retire(before) is collect.Retirement.DELETED
    assert verify.check(item.target, digests=True) == []
    copy = Checkpoint.from_directory(item.target).to_directory(tmp_path / "copy")
    assert stat.S_IMODE(os.stat(os.path.join(copy, "renamed/base.bin")).st_mode) == 0o644


def test_damage_does_not_spread(trial, save, stage):
    """A file that was damaged in the previous checkpoint is not taken from there."""
    before = save(trial, 0, FIRST)
    with open(os.path.join(before, "frozen/base.bin"), "r+b") as file:
        file.write(bytes([BIG[0] ^ 1]))
    item = stage(trial, 1, SECOND)
    assert share_unchanged(item.directory, item.manifest.files, before, hard_links=True) == 0
    commit([item])
    assert verify.check(item.target, digests=True) == []


def test_root_shares_no_links(trial, save, stage, monkeypatch):
    """Root could write through a link in spite of its mode, so by default it makes none."""
    before = save(trial, 0, FIRST)
    item = stage(trial, 1, SECOND)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert share_unchanged(item.directory, item.manifest.files, before) == 0
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert share_unchanged(item.directory, item.manifest.files, before) == len(BIG)


def test_no_previous_checkpoint(trial, stage, tmp_path):
    """A previous checkpoint that is gone, or was never one, shares nothing."""
    item = stage(trial, 1, SECOND)
    assert share_unchanged(item.directory, item.manifest.files, str(tmp_path / "gone")) == 0


def test_failures_keep_our_own_bytes(trial, save, stage):
    """Wherever sharing fails or the process dies, no byte is lost, and a sweep removes the rest."""
    before = save(trial, 0, FIRST)
    item = stage(trial, 1, SECOND)
    with Interposer() as counting:
        share_unchanged(item.directory, item.manifest.files, before, hard_links=True)
    assert counting.count == 4
    for at in range(1, counting.count + 1):
        item = stage(trial, 1 + at, SECOND)

        def scenario(item=item) -> None:
            share_unchanged(item.directory, item.manifest.files, before, hard_links=True)

        with Interposer(Fault("eio", at)):
            scenario()
        assert tree.describe(item.directory).files == item.manifest.files
        assert run_in_child(scenario, Interposer(Fault("exit", at))) == EXIT_CODE
        assert tree.describe(item.directory).files == item.manifest.files
        assert commit([item]) == [item.manifest]
        for directory in (before, item.target):
            assert verify.check(directory, digests=True) == []
    collect.sweep(trial)
    assert not [name for name in os.listdir(trial) if name.startswith(".")]


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_reflinks(real_reflinks, kind, tmp_path, save, stage):
    """Where blocks can be shared, files stay separate, keep their modes, and need no room."""
    with contextlib.ExitStack() as stack:
        try:
            root = stack.enter_context(mounted(kind, str(tmp_path), 320 << 20))
        except MountUnavailableError as reason:
            pytest.skip(str(reason))
        trial = os.path.join(root, "experiment", "trial")
        os.makedirs(trial)
        big = os.urandom(1 << 20) * 40
        before = save(trial, 0, {"frozen.bin": big})
        for index in range(1, 10):  # ten times this file would not fit
            item = stage(trial, index, {"frozen.bin": big, "head.bin": b"%d" % index})
            assert share_unchanged(item.directory, item.manifest.files, before) == len(big)
            assert commit([item]) == [item.manifest]
            posix.syncfs(root)
        after = item.target
        assert inode(before, "frozen.bin") != inode(after, "frozen.bin")
        assert stat.S_IMODE(os.stat(os.path.join(after, "frozen.bin")).st_mode) == 0o644
        assert manifest.read(after) == item.manifest
        with open(os.path.join(before, "frozen.bin"), "r+b") as file:
            file.write(b"changed")
        assert verify.check(after, digests=True) == []
