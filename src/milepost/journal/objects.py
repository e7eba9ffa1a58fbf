"""Pickled values of an experiment, stored once by their digest."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any, Final

from milepost.errors import JournalCorruptError, JournalError
from milepost.journal import experiment as experiments
from milepost.storage import names, posix

log = logging.getLogger("milepost.journal")

_DIGITS: Final = 32


def digest(data: bytes) -> str:
    """Return the name under which ``data`` is stored: its xxh3-128 in hex."""
    import xxhash

    return str(xxhash.xxh3_128_hexdigest(data))


class Objects:
    """The directory ``.milepost/objects`` of one experiment.

    Concurrency: any number of writers; equal bytes have one name, so they never conflict.
    """

    def __init__(self, experiment_path: str) -> None:
        self._directory = os.path.join(experiment_path, experiments.HOME, experiments.OBJECTS)
        self._known: set[str] = set()

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its digest; what is there already costs nothing.

        Raises:
            JournalError: it could not be written; nothing refers to it yet.
        """
        name = digest(data)
        if name in self._known:
            return name
        path = os.path.join(self._directory, name)
        try:
            if not _has(path, len(data)):
                self._write(path, name, data)
            # Also when the file was there: its writer may have died before this step.
            posix.fsync_dir(self._directory)
        except OSError as error:
            raise JournalError(
                f"cannot store a value of {len(data)} bytes in {self._directory}: {error}"
            ) from error
        self._known.add(name)
        return name

    def _write(self, path: str, name: str, data: bytes) -> None:
        draft = names.temporary(self._directory, name)
        try:
            posix.write_new(draft, data)
            posix.fsync_file(draft)
            posix.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):  # the first failure is the one to report
                posix.unlink(draft)
            raise

    def discard(self, name: str) -> None:
        """Delete what is stored under a digest that no record will need any more.

        One that cannot be deleted is left behind, with a warning: it costs room, nothing else.
        """
        self._known.discard(name)
        try:
            posix.unlink(os.path.join(self._directory, name))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("an old state of the search could not be deleted: %s", error)

    def get(self, name: str) -> bytes:
        """Return the bytes stored under a digest.

        Raises:
            JournalError: there are none.
            JournalCorruptError: they are damaged.
        """
        if len(name) != _DIGITS or not set(name) <= set("0123456789abcdef"):
            raise JournalError(f"{name!r} is not the digest of a stored value")
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise JournalError(f"the stored value {path} cannot be read: {error}") from error
        if digest(data) != name:
            raise JournalCorruptError(f"the stored value {path} is damaged: its digest differs")
        return data

    def put_value(self, value: Any) -> str:
        """Pickle ``value`` and store it.

        Raises:
            Exception: whatever pickling the value raises.
            JournalError: as :meth:`put`.
        """
        import cloudpickle

        return self.put(cloudpickle.dumps(value))

    def get_value(self, name: str) -> Any:
        """Load a pickled value.

        Raises:
            Exception: whatever unpickling raises, for example ImportError for the user's modules.
            JournalError: as :meth:`get`.
        """
        import pickle

        return pickle.loads(self.get(name))


def _has(path: str, nbytes: int) -> bool:
    """Whether a whole object is there (a file of another size is what a power loss left)."""
    try:
        return os.stat(path).st_size == nbytes
    except FileNotFoundError:
        return False
