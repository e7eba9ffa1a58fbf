"""A storage that fails when it is told to."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from milepost.storage import Storage

Call = Literal["get", "size", "put", "create", "delete", "list_keys"]
StorageFaultKind = Literal["error", "torn", "lost_reply", "delay"]

_T = TypeVar("_T")

_CALLS: tuple[Call, ...] = get_args(Call)
_KINDS: tuple[StorageFaultKind, ...] = get_args(StorageFaultKind)
_WRITES = ("put", "create")


@dataclass(frozen=True)
class StorageFault:
    """What goes wrong with a storage, and at which call.

    Attributes:
        call: which method fails; ``"any"`` counts calls of all methods together.
        at: the number of the call that fails first, from 1.
        kind: ``"error"`` raises and does nothing; ``"torn"`` writes the first half of the bytes and
            raises, as a storage does that does not keep its promise (:meth:`FaultyStorage.put` and
            ``create`` only, elsewhere like ``"error"``); ``"lost_reply"`` does everything and then
            raises, as when a connection breaks before the answer; ``"delay"`` takes its time and
            then does everything.
        times: how many calls in a row fail; None for all from then on.
        error: what is raised; the default is an input/output error (EIO).
        delay_s: how long ``"delay"`` takes.
    """

    call: Call | Literal["any"] = "any"
    at: int = 1
    kind: StorageFaultKind = "error"
    times: int | None = 1
    error: Exception | None = None
    delay_s: float = 1.0

    def __post_init__(self) -> None:
        if self.call != "any" and self.call not in _CALLS:
            raise ValueError(f"StorageFault.call must be 'any' or one of {_CALLS}: {self.call!r}")
        if self.kind not in _KINDS:
            raise ValueError(f"StorageFault.kind must be one of {_KINDS}, got {self.kind!r}")
        if self.at < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"calls are counted from 1: at={self.at!r}, times={self.times!r}")

    def strikes(self, call: Call, number: int, total: int) -> bool:
        """Whether it strikes this call.

        Args:
            call: the method.
            number: its number among the calls of that method.
            total: its number among all calls.
        """
        if self.call not in ("any", call):
            return False
        after = (total if self.call == "any" else number) - self.at
        return after >= 0 and (self.times is None or after < self.times)


class FaultyStorage:
    """Wraps a :class:`~milepost.storage.Storage` and lets some of its calls fail.

    Without faults it does what the wrapped one does. Calls are counted, so that a test can run once
    to see how many there are, and then once for each with a fault there.

    Args:
        storage: the one that does the work.
        faults: what goes wrong; the first that strikes a call counts.
        sleep: how delays are waited for; a fake clock's ``sleep`` makes them free.

    Attributes:
        counts: how many calls of each method there were.
        calls: all calls in order, as (method, key or prefix).

    Example:
        >>> import tempfile
        >>> from milepost.storage import LocalStorage
        >>> storage = FaultyStorage(
        ...     LocalStorage(tempfile.mkdtemp()), StorageFault("put", at=2)
        ... )
        >>> storage.put("a", b"1")
        >>> storage.put("b", b"2")
        Traceback (most recent call last):
        OSError: [Errno 5] Input/output error (call 2: put 'b')
        >>> storage.put("b", b"2")
        >>> list(storage.list_keys())
        ['a', 'b']
    """

    def __init__(
        self,
        storage: Storage,
        *faults: StorageFault,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._storage = storage
        self._faults = faults
        self._sleep = sleep
        self._lock = threading.Lock()
        self.counts: dict[Call, int] = dict.fromkeys(_CALLS, 0)
        self.calls: list[tuple[Call, str]] = []

    def get(self, key: str) -> bytes:
        """Return an object's bytes; see :meth:`Storage.get`."""
        return self._do("get", key, lambda: self._storage.get(key))

    def size(self, key: str) -> int | None:
        """Return an object's length in bytes, or None; see :meth:`Storage.size`."""
        return self._do("size", key, lambda: self._storage.size(key))

    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object; see :meth:`Storage.put`."""
        self._do("put", key, lambda: self._storage.put(key, data), data)

    def create(self, key: str, data: bytes) -> None:
        """Create an object that must not exist yet; see :meth:`Storage.create`."""
        self._do("create", key, lambda: self._storage.create(key, data), data)

    def delete(self, key: str) -> None:
        """Remove an object; see :meth:`Storage.delete`."""
        self._do("delete", key, lambda: self._storage.delete(key))

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with ``prefix``; see :meth:`Storage.list_keys`."""
        yield from self._do("list_keys", prefix, lambda: self._storage.list_keys(prefix))

    def _do(self, call: Call, key: str, act: Callable[[], _T], data: bytes = b"") -> _T:
        fault, number = self._fault(call, key)
        if fault is None:
            return act()
        if fault.kind == "delay":
            self._sleep(fault.delay_s)
            return act()
        if fault.kind == "torn" and call in _WRITES:
            write = self._storage.put if call == "put" else self._storage.create
            write(key, data[: len(data) // 2])
        elif fault.kind == "lost_reply":
            act()
        if fault.error is not None:
            raise fault.error
        raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} (call {number}: {call} {key!r})")

    def _fault(self, call: Call, key: str) -> tuple[StorageFault | None, int]:
        """Count a call; return what happens to it, and its number among all."""
        with self._lock:
            self.counts[call] += 1
            self.calls.append((call, key))
            number, total = self.counts[call], len(self.calls)
        found = (fault for fault in self._faults if fault.strikes(call, number, total))
        return next(found, None), total

    def __repr__(self) -> str:
        faults = "".join(f", {fault!r}" for fault in self._faults)
        return f"FaultyStorage({self._storage!r}{faults})"
