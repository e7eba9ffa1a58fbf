"""Bytes by key, in a directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from milepost.storage import names, posix


class LocalStorage:
    """Keeps each object as one file below a root directory.

    Keys are relative paths with forward slashes. Every write is whole and durable when it
    returns; see :class:`milepost.storage.Storage` for what each method guarantees.

    Example:
        >>> import tempfile
        >>> storage = LocalStorage(tempfile.mkdtemp())
        >>> storage.put("a/b", b"bytes")
        >>> storage.get("a/b"), list(storage.list_keys())
        (b'bytes', ['a/b'])
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))

    def __repr__(self) -> str:
        return f"LocalStorage({self.root!r})"

    def get(self, key: str) -> bytes:
        """Return the object's bytes; see :meth:`Storage.get`."""
        with open(self._path(key), "rb") as file:
            return file.read()

    def size(self, key: str) -> int | None:
        """Return the object's length in bytes, or None; see :meth:`Storage.size`."""
        try:
            return os.stat(self._path(key)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object; see :meth:`Storage.put`."""
        path = self._path(key)
        posix.durable_makedirs(os.path.dirname(path))
        posix.durable_replace(path, data)

    def create(self, key: str, data: bytes) -> None:
        """Create the object, or fail if it exists; see :meth:`Storage.create`."""
        path = self._path(key)
        directory = os.path.dirname(path)
        posix.durable_makedirs(directory)
        draft = names.temporary(directory, os.path.basename(path))
        try:
            posix.write_new(draft, data)
            posix.fsync_file(draft)
            posix.rename_noreplace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):  # the first failure is the one to report
                posix.unlink(draft)
            raise
        posix.fsync_dir(directory)

    def delete(self, key: str) -> None:
        """Remove the object; see :meth:`Storage.delete`."""
        path = self._path(key)
        try:
            posix.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        posix.fsync_dir(os.path.dirname(path))

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with ``prefix``, sorted; see :meth:`Storage.list_keys`."""
        start = self._path(os.path.dirname(prefix)) if os.path.dirname(prefix) else self.root
        for key in self._walk(start):
            if key.startswith(prefix):
                yield key

    def _walk(self, directory: str) -> Iterator[str]:
        try:
            with os.scandir(directory) as entries:
                # A directory sorts as "name/", which is how its keys compare with its siblings'.
                found = sorted(
                    (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry)
                    for entry in entries
                    if not names.is_leftover(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in found:
            if name.endswith("/"):
                yield from self._walk(entry.path)
            else:
                yield os.path.relpath(entry.path, self.root)

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if not key or "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"not a storage key: {key!r}; keys are relative paths such as 'a/b'")
        return os.path.join(self.root, *parts)
