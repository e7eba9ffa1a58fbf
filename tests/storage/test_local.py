from __future__ import annotations

import os
from pathlib import Path

import pytest

from milepost.storage import LocalStorage
from milepost.testing.interposer import Fault, Interposer
from milepost.testing.storage import StorageTests


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


class TestLocalStorage(StorageTests):
    """A directory does what every storage does."""

    @pytest.fixture
    def storage(self, local: LocalStorage) -> LocalStorage:
        return local


def test_repr_and_root(local, tmp_path, monkeypatch):
    """It shows where it is, and does not move with the current directory."""
    assert repr(local) == f"LocalStorage({local.root!r})"
    monkeypatch.chdir(tmp_path)
    assert LocalStorage("root").root == local.root


def test_failed_write_leaves_the_old_object(local):
    """A full disk leaves what was there, and no draft."""
    local.put("key", b"old")
    with Interposer() as counting:
        local.put("key", b"old")
    for at in range(2, counting.count):
        with Interposer(Fault("enospc", at)), pytest.raises(OSError, match="No space"):
            local.put("key", b"new")
        assert local.get("key") == b"old"
        assert list(local.list_keys()) == ["key"]


def test_torn_writes_are_not_listed(local):
    """What a crash left is no key, and the next write does not stumble over it."""
    local.put("a/key", b"data")
    directory = os.path.join(local.root, "a")
    Path(directory, ".milepost-tmp-key-0123").write_bytes(b"ha")
    assert list(local.list_keys()) == ["a/key"]
    local.put("a/key", b"new")
    assert local.get("a/key") == b"new"


def test_a_key_below_an_object(local):
    """A key that would need an object to be a directory is an error, not a wrong answer."""
    local.put("a", b"data")
    assert local.size("a/b") is None
    with pytest.raises(NotADirectoryError):
        local.put("a/b", b"")
    assert list(local.list_keys("a/")) == []
