from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from milepost.storage import LocalStorage, Storage
from milepost.testing.interposer import Fault, Interposer


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def test_is_a_storage(storage):
    """It has the methods of the seam, and shows where it is."""
    assert isinstance(storage, Storage)
    assert repr(storage) == f"LocalStorage({storage.root!r})"


def test_put_get_delete(storage):
    """Bytes come back; a replaced object is replaced; a missing one is an error."""
    storage.put("a/b/c", b"one")
    storage.put("a/b/c", b"two")
    assert storage.get("a/b/c") == b"two"
    assert storage.size("a/b/c") == 3
    storage.delete("a/b/c")
    storage.delete("a/b/c")
    assert storage.size("a/b/c") is None
    with pytest.raises(FileNotFoundError):
        storage.get("a/b/c")


def test_create_is_exclusive(storage):
    """Of many writers exactly one creates the object, and it keeps that one's bytes."""
    won: list[int] = []

    def create(number: int) -> None:
        try:
            storage.create("a/key", str(number).encode())
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.get("a/key") == str(won[0]).encode()
    assert os.listdir(os.path.join(storage.root, "a")) == ["key"]


def test_failed_write_leaves_the_old_object(storage):
    """A full disk leaves what was there, and no draft."""
    storage.put("key", b"old")
    with Interposer() as counting:
        storage.put("key", b"old")
    for at in range(1, counting.count):
        with Interposer(Fault("enospc", at)), pytest.raises(OSError, match="No space"):
            storage.put("key", b"new")
        assert storage.get("key") == b"old"
        assert list(storage.list_keys()) == ["key"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\0b"])
def test_bad_keys(storage, key):
    """A key that is not a relative path touches nothing."""
    for call in (storage.get, storage.delete, storage.size, lambda k: storage.put(k, b"")):
        with pytest.raises(ValueError, match="not a storage key"):
            call(key)


class Model(RuleBasedStateMachine):
    """The storage behaves as a dict does."""

    keys = st.sampled_from(["a", "b/c", "b/d", "b.x", "b/e/f", "z"])

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.storage = LocalStorage(os.path.join(self.directory.name, "root"))
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule(key=keys, data=st.binary(max_size=5))
    def put(self, key: str, data: bytes) -> None:
        self.storage.put(key, data)
        self.model[key] = data

    @rule(key=keys, data=st.binary(max_size=5))
    def create(self, key: str, data: bytes) -> None:
        if key in self.model:
            with pytest.raises(FileExistsError):
                self.storage.create(key, data)
        else:
            self.storage.create(key, data)
            self.model[key] = data

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.storage.delete(key)
        self.model.pop(key, None)

    @rule(key=keys)
    def reopen_after_a_torn_write(self, key: str) -> None:
        directory = os.path.dirname(os.path.join(self.storage.root, key))
        os.makedirs(directory, exist_ok=True)
        Path(directory, ".milepost-tmp-torn").write_bytes(b"half")
        self.storage = LocalStorage(self.storage.root)

    @invariant()
    def agrees(self) -> None:
        assert list(self.storage.list_keys()) == sorted(self.model)
        assert list(self.storage.list_keys("b/")) == sorted(k for k in self.model if k[:2] == "b/")
        assert list(self.storage.list_keys("b")) == sorted(k for k in self.model if k[0] == "b")
        assert {key: self.storage.get(key) for key in self.model} == self.model


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
