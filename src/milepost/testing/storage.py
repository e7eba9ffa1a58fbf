"""Conformance of a :class:`milepost.storage.Storage`: what every kind of storage must do.

Subclass :class:`StorageTests` in a test module and give it a fixture::

    class TestMyStorage(StorageTests):
        @pytest.fixture
        def storage(self):
            return MyStorage(...)
"""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milepost.storage import Storage

KEYS = ["a", "b/c", "b/d", "b.x", "b/e/f", "z"]

_steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "create", "delete"]),
        st.sampled_from(KEYS),
        st.binary(max_size=5),
    ),
    max_size=12,
)


class StorageTests:
    """Tests that every storage passes; ``storage`` is a fixture that gives an empty one."""

    @pytest.fixture
    def storage(self) -> Storage:
        """Give an empty storage; to be overridden."""
        raise NotImplementedError("override the fixture 'storage'")

    def test_has_the_methods(self, storage: Storage) -> None:
        """It is a Storage."""
        assert isinstance(storage, Storage)

    def test_objects_come_back(self, storage: Storage) -> None:
        """Bytes come back whole, empty ones too; a replaced object is replaced."""
        storage.put("a/b/c", b"one")
        storage.put("a/b/c", b"two")
        storage.put("empty", b"")
        assert storage.get("a/b/c") == b"two"
        assert storage.get("empty") == b""
        assert storage.size("a/b/c") == 3
        assert storage.size("empty") == 0

    def test_missing_objects(self, storage: Storage) -> None:
        """Getting one is an error, asking for its size is None, deleting it is nothing."""
        for key in ("none", "a/none"):
            assert storage.size(key) is None
            storage.delete(key)
            with pytest.raises(FileNotFoundError):
                storage.get(key)
        assert list(storage.list_keys()) == []
        assert list(storage.list_keys("a/")) == []

    def test_create_is_exclusive(self, storage: Storage) -> None:
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
        assert list(storage.list_keys()) == ["a/key"]

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\0b"])
    def test_bad_keys(self, storage: Storage, key: str) -> None:
        """A key that is not a relative path is an error for each call, and touches nothing."""
        with pytest.raises(ValueError, match="not a storage key"):
            storage.get(key)
        with pytest.raises(ValueError, match="not a storage key"):
            storage.size(key)
        with pytest.raises(ValueError, match="not a storage key"):
            storage.put(key, b"")
        with pytest.raises(ValueError, match="not a storage key"):
            storage.create(key, b"")
        with pytest.raises(ValueError, match="not a storage key"):
            storage.delete(key)
        assert list(storage.list_keys()) == []

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,  # each storage's test class inherits this method
        ],
    )
    @given(steps=_steps)
    def test_behaves_as_a_dict(self, storage: Storage, steps: list[tuple[str, str, bytes]]) -> None:
        """After any sequence of calls it holds what a dict would hold, and lists it in order."""
        for key in list(storage.list_keys()):
            storage.delete(key)
        model: dict[str, bytes] = {}
        for step, key, data in steps:
            if step == "put":
                storage.put(key, data)
                model[key] = data
            elif step == "delete":
                storage.delete(key)
                model.pop(key, None)
            elif key in model:
                with pytest.raises(FileExistsError):
                    storage.create(key, data)
            else:
                storage.create(key, data)
                model[key] = data
        assert list(storage.list_keys()) == sorted(model)
        for prefix in ("b", "b/", "b/e/", "none"):
            expected = sorted(key for key in model if key.startswith(prefix))
            assert list(storage.list_keys(prefix)) == expected
        assert {key: storage.get(key) for key in model} == model
        assert {key: storage.size(key) for key in model} == {
            key: len(data) for key, data in model.items()
        }
