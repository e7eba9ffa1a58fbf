"""Bytes by key, and every change that is made to a file system.

:class:`Storage` is the seam behind which other kinds of storage fit; :mod:`~milepost.storage.posix`
is where the steps of the local one are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from milepost.storage.local import LocalStorage


@runtime_checkable
class Storage(Protocol):
    """Bytes by key, with whole and durable writes.

    Keys are relative paths with forward slashes; ``ValueError`` says that one is not.
    """

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none of this key.
        """

    def size(self, key: str) -> int | None:
        """Return an object's length in bytes, or None when there is none of this key."""

    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object.

        *Atomicity*: readers see the old bytes or the new ones, whole.
        *Durability*: when this returns.
        *Concurrency*: the last writer wins.
        *After a crash*: the old or the new object, and possibly a name that listings hide.
        """

    def create(self, key: str, data: bytes) -> None:
        """Create an object that must not exist yet, as :meth:`put` otherwise.

        *Concurrency*: exactly one of several writers succeeds.

        Raises:
            FileExistsError: there is one of this key; it was not touched.
        """

    def delete(self, key: str) -> None:
        """Remove an object durably; one that is not there is no error."""

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with ``prefix`` in sorted order, without unfinished writes."""


__all__ = ["LocalStorage", "Storage"]
