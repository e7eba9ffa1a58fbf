"""Read leases: what keeps a hard-linked file from changing until its bytes are ours.

A process that opens a leased file for writing, or truncates it, is held up by the kernel, and the
holder gets a signal. It then has ``/proc/sys/fs/lease-break-time`` seconds to copy the bytes out
and release; afterwards the kernel lets the writer go on. Removing or replacing the file's other
name does not break a lease. Only a process that expects the signal may hold leases: it kills one
that does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from milepost.checkpoint.tree import digest, new_hasher
from milepost.errors import CaptureError
from milepost.keeper.guard import guard, release
from milepost.keeper.intent import FILES_SUFFIX
from milepost.keeper.place import DRAFT_SUFFIX
from milepost.storage import posix

log = logging.getLogger("milepost.keeper")

_T = TypeVar("_T")


def break_time_s() -> float:
    """How long the kernel holds up a writer."""
    with open("/proc/sys/fs/lease-break-time", encoding="ascii") as file:
        return float(file.read())


class OverwrittenError(CaptureError):
    """A captured file was written to before its bytes were saved, so it cannot be committed."""


class _Lease:
    """A read lease on one staged file, and the copy that ends it."""

    def __init__(self, base: str, path: str, fd: int) -> None:
        self.path = path
        self.digest: str | None = None
        self._base = base
        self._fd = fd
        self._lock = threading.Lock()
        self._lost: str | None = None
        info = os.fstat(fd)
        self._identity = (info.st_size, info.st_mtime_ns)

    @property
    def is_breaking(self) -> bool:
        """Whether a writer waits for this lease, or has waited too long; False once released."""
        with contextlib.suppress(OSError):
            return self._fd >= 0 and fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK
        return False

    def hold_through(self, act: Callable[[str], _T]) -> tuple[bool, _T | None]:
        """Run ``act(path)``; whether the file was the same, leased one all the time."""
        if self._fd < 0:
            return False, None
        result = act(self.path)
        with self._lock:
            return self._fd >= 0, result

    def make_private(self, hasher: bool) -> None:
        """Make the staged name the only name of its bytes, and release the lease.

        Args:
            hasher: compute the digest on the way, by a plain read and write; without it the copy
                may share blocks, which can wait for the disk.
        """
        with self._lock:
            if self._fd < 0:
                return
            try:
                if os.fstat(self._fd).st_nlink > 1 or self.is_breaking:
                    self._copy_out(hasher)
            except OSError as error:
                self._lost = f"its bytes could not be saved: {error.strerror}"
                raise
            finally:
                self._release()

    def require_saved(self) -> None:
        """Raise if the bytes were lost."""
        if self._lost is not None:
            raise OverwrittenError(
                f"{self.path} was opened for writing under its other name before its commit, and "
                f"{self._lost}. The checkpoint is not committed; earlier ones are intact"
            )

    def drop(self) -> None:
        """Release the lease without saving anything."""
        with self._lock:
            self._release()

    def _copy_out(self, hasher: bool) -> None:
        # Beside the tree, so that a draft left by a crash is no part of the checkpoint.
        draft = f"{self._base}{DRAFT_SUFFIX}{os.fstat(self._fd).st_ino}"
        with contextlib.suppress(FileNotFoundError):
            posix.unlink(draft)
        xxh3 = new_hasher() if hasher else None
        if hasher or not posix.reflink(self.path, draft):
            posix.copy_file(self.path, draft, xxh3)
        info = os.fstat(self._fd)
        if (info.st_size, info.st_mtime_ns) != self._identity:
            self._lost = (
                "that writer was held up no longer than /proc/sys/fs/lease-break-time "
                f"({break_time_s():.0f} s), less than saving {self._identity[0]:,} bytes took"
            )
            return
        os.utime(draft, ns=(info.st_atime_ns, info.st_mtime_ns))
        posix.replace(draft, self.path)
        if xxh3 is not None:
            self.digest = xxh3.hexdigest()

    def _release(self) -> None:
        if self._fd >= 0:
            release(self._fd)
            self._fd = -1


class Leases:
    """All read leases that this keeper holds, by the staged file's path.

    :meth:`adopt`, :meth:`take` and :meth:`breaking` belong to the loop; commit threads use the
    others.
    """

    def __init__(self) -> None:
        self._leases: dict[str, dict[str, _Lease]] = {}  # base of the capture -> path -> lease
        self._lock = threading.Lock()
        self._rescuing: set[_Lease] = set()

    def adopt(self, base: str, guards: Sequence[tuple[str, int]]) -> None:
        """Hold leases that a worker has taken for us (:mod:`milepost.keeper.guard`).

        Args:
            base: the capture's path in staging, without suffix.
            guards: files of its tree, each with the descriptor that has the lease.
        """
        root = base + FILES_SUFFIX
        with self._lock:
            held = self._leases.setdefault(base, {})
            for name, fd in guards:
                path = os.path.join(root, name)
                if path in held:  # the worker and a search of staging have both taken one
                    release(fd)
                else:
                    held[path] = _Lease(base, path, fd)

    def take(self, base: str, hold: Sequence[str]) -> None:
        """Take leases on the staged files of a capture that was found, as far as that works.

        Args:
            base: the capture's path in staging, without suffix.
            hold: files of its tree.
        """
        root = base + FILES_SUFFIX
        pid = os.getpid()
        found = [guard(root, name, pid) for name in hold if not self.holds(base, f"{root}/{name}")]
        self.adopt(base, [guarded for guarded in found if guarded is not None])

    def breaking(self) -> list[Callable[[], None]]:
        """For each lease that a writer waits for: the act that saves the bytes and lets it go on.

        Each is returned once, and must be run at once, in a thread.
        """
        with self._lock:
            found = [
                lease
                for leases in self._leases.values()
                for lease in leases.values()
                if lease not in self._rescuing and lease.is_breaking
            ]
            self._rescuing.update(found)
        return [partial(self._rescue, lease) for lease in found]

    def stable(self, base: str, path: str, act: Callable[[str], _T]) -> _T:
        """Run ``act(path)`` on a staged file such that its bytes stay the same meanwhile.

        ``act`` is run again if the bytes had to be moved to another file under it.
        """
        lease = self._get(base, path)
        if lease is not None:
            good, result = lease.hold_through(act)
            if good:
                assert result is not None
                return result
            lease.require_saved()
        return act(path)

    def digest(self, base: str, path: str) -> str:
        """The digest of a staged file.

        Raises:
            OverwrittenError: the bytes were lost to a writer.
        """
        lease = self._get(base, path)
        if lease is not None and lease.digest is not None:
            return lease.digest
        return self.stable(base, path, digest)[0]

    def make_private(self, base: str, path: str) -> None:
        """Make sure that the staged name is the only name of its bytes; the lease ends.

        Raises:
            OverwrittenError: the bytes were lost to a writer.
            OSError: they could not be copied.
        """
        lease = self._get(base, path)
        if lease is not None:
            lease.make_private(hasher=False)
            lease.require_saved()

    def holds(self, base: str, path: str) -> bool:
        """Whether a lease was taken on this staged file."""
        return self._get(base, path) is not None

    def release(self, base: str) -> None:
        """Forget all leases of a capture, which is settled or was abandoned."""
        with self._lock:
            leases = self._leases.pop(base, {})
        for lease in leases.values():
            lease.drop()

    def _get(self, base: str, path: str) -> _Lease | None:
        with self._lock:
            return self._leases.get(base, {}).get(path)

    def _rescue(self, lease: _Lease) -> None:
        started = time.monotonic()
        try:
            lease.make_private(hasher=True)
        except OSError as error:  # the commit fails with it; the writer must not wait for that
            log.error("saving %s from being overwritten failed: %s", lease.path, error)
        finally:
            with self._lock:
                self._rescuing.discard(lease)
        log.info(
            "%s is being overwritten; its bytes were saved first, in %.3f s",
            lease.path,
            time.monotonic() - started,
        )
