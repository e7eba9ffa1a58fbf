"""The storage that fails when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milepost.storage import LocalStorage
from milepost.testing import FakeClock, FaultyStorage, StorageFault, StorageTests


class TestFaultyStorage(StorageTests):
    """Without faults it does what every storage does."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> FaultyStorage:
        return FaultyStorage(LocalStorage(tmp_path))


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def content(storage: Any) -> dict[str, bytes]:
    return {key: storage.get(key) for key in storage.list_keys()}


def test_the_nth_call_of_a_kind_fails(local: LocalStorage) -> None:
    """Other calls work, before and after; each is counted."""
    storage = FaultyStorage(local, StorageFault("put", at=2))
    storage.put("a", b"1")
    storage.create("b", b"2")
    with pytest.raises(OSError, match=r"Input/output error \(call 3: put 'c'\)"):
        storage.put("c", b"3")
    storage.put("c", b"4")
    assert content(local) == {"a": b"1", "b": b"2", "c": b"4"}
    assert storage.counts["put"] == 3
    assert storage.calls == [("put", "a"), ("create", "b"), ("put", "c"), ("put", "c")]


def test_any_call_can_be_counted(local: LocalStorage) -> None:
    """With one fault after the other at each call, a test sees every way to fail."""
    local.put("a", b"1")

    def scenario(storage: FaultyStorage) -> None:
        storage.get("a")
        storage.size("a")
        storage.put("a", b"2")
        storage.delete("a")
        storage.create("a", b"1")
        list(storage.list_keys("a"))

    counting = FaultyStorage(local)
    scenario(counting)
    assert [call for call, _ in counting.calls] == [
        "get", "size", "put", "delete", "create", "list_keys",
    ]  # fmt: skip
    for at in range(1, 7):
        storage = FaultyStorage(local, StorageFault(at=at))
        with pytest.raises(OSError, match=rf"call {at}: {counting.calls[at - 1][0]} 'a'"):
            scenario(storage)
        assert len(storage.calls) == at
        local.put("a", b"1")


def test_kinds_of_errors(local: LocalStorage) -> None:
    """The error may be any; it may come several times in a row, or for ever."""
    full = OSError(28, "No space left on device")
    storage = FaultyStorage(
        local, StorageFault("put", at=2, times=2, error=full), StorageFault("get", times=None)
    )
    storage.put("a", b"1")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            storage.put("b", b"2")
        assert caught.value is full
    storage.put("b", b"2")
    for _ in range(5):
        with pytest.raises(OSError, match="Input/output"):
            storage.get("a")


@pytest.mark.parametrize("call", ["put", "create"])
def test_a_torn_write(local: LocalStorage, call: str) -> None:
    """The first half of the bytes is there, as a storage leaves it that breaks its promise."""
    storage = FaultyStorage(local, StorageFault(call, kind="torn"))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Input/output"):
        getattr(storage, call)("a", b"123456")
    assert content(local) == {"a": b"123"}


def test_tearing_what_is_no_write(local: LocalStorage) -> None:
    """It fails and does nothing."""
    local.put("a", b"1")
    storage = FaultyStorage(local, StorageFault("delete", kind="torn"))
    with pytest.raises(OSError, match="Input/output"):
        storage.delete("a")
    assert content(local) == {"a": b"1"}


def test_a_lost_reply(local: LocalStorage) -> None:
    """Everything is done, and the caller is told that it failed."""
    storage = FaultyStorage(local, StorageFault("create", kind="lost_reply", error=TimeoutError()))
    with pytest.raises(TimeoutError):
        storage.create("a", b"1")
    with pytest.raises(FileExistsError):
        storage.create("a", b"1")
    assert content(local) == {"a": b"1"}


def test_a_delay(local: LocalStorage) -> None:
    """The call works, later; with a fake clock nobody waits for it."""
    clock = FakeClock()
    before = clock.monotonic()
    storage = FaultyStorage(local, StorageFault("put", kind="delay", delay_s=30), sleep=clock.sleep)
    storage.put("a", b"1")
    storage.put("b", b"2")
    assert clock.monotonic() - before == 30
    assert content(local) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"call": "write"}, "'any' or one of .*'put'.*'write'"),
        ({"kind": "tear"}, "one of .*'torn'.*'tear'"),
        ({"at": 0}, "counted from 1"),
        ({"times": 0}, "counted from 1"),
    ],
)
def test_faults_that_mean_nothing(fields: dict[str, Any], says: str) -> None:
    """A misspelt fault is an error: it would never strike, and the test would prove nothing."""
    with pytest.raises(ValueError, match=says):
        StorageFault(**fields)


def test_repr(local: LocalStorage) -> None:
    """It shows what it wraps and what goes wrong."""
    text = repr(FaultyStorage(local, StorageFault("put")))
    assert text.startswith(f"FaultyStorage({local!r}, StorageFault(call='put', at=1")
