"""Making a journal's records durable, off the thread that appends them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from milepost.errors import JournalError

log = logging.getLogger("milepost.journal")

GROUP_S: Final = 0.02


class Syncer:
    """A thread that flushes what was appended, many records at a time.

    A record is durable within 50 ms on a device that flushes in less than half of that. A failed
    flush is final: the kernel has dropped the bytes, so nothing after it may count as durable.

    Args:
        flush: makes everything appended so far durable and returns the number of the last such
            record; raises if it cannot, or must not.
        beat: called at least every ``beat_s`` seconds while nothing fails.
        beat_s: seconds.

    Attributes:
        synced: number of the last durable record.
    """

    def __init__(
        self, flush: Callable[[], int], synced: int, beat: Callable[[], None], beat_s: float
    ) -> None:
        self.synced = synced
        self._flush = flush
        self._beat = beat
        self._beat_s = beat_s
        self._dirty = False
        self._ending = False
        self._failure: JournalError | None = None
        self._listeners: list[Callable[[], None]] = []
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._progress = threading.Condition()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="milepost-journal", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> JournalError | None:
        """Why nothing more will be durable, or None."""
        return self._failure

    def appended(self) -> None:
        """Say that there is something to flush; :meth:`wake` has it done."""
        self._dirty = True

    def wake(self) -> None:
        """Have what was appended flushed soon. Costs next to nothing when that is known."""
        if self._dirty and not self._wake.is_set():
            self._wake.set()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, on the thread that flushes, after each flush."""
        self._listeners.append(listener)

    def fileno(self) -> int:
        """Readable after :attr:`synced` has advanced or a flush has failed."""
        return self._eventfd

    def acknowledge(self) -> None:
        """Make :meth:`fileno` unreadable until the next event."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)

    def wait(self, seq: int, timeout_s: float) -> None:
        """Wait until record ``seq`` is durable.

        Raises:
            JournalError: a flush failed, or took longer than ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        self._urgent.set()
        self.appended()
        self._wake.set()
        with self._progress:
            while self.synced < seq and self._failure is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise JournalError(
                        f"record {seq} of the journal was not durable after {timeout_s:g} s "
                        f"(record {self.synced} is); the storage does not answer"
                    )
                self._progress.wait(remaining)
        if self._failure is not None and self.synced < seq:
            raise self._failure

    def close(self) -> None:
        """End the thread after a flush of what is left; safe to call twice."""
        if self._eventfd < 0:
            return
        self._ending = True
        self._urgent.set()
        self._wake.set()
        self._thread.join()
        os.close(self._eventfd)
        self._eventfd = -1

    def _run(self) -> None:
        while self._failure is None:
            woken = self._wake.wait(self._beat_s)
            if woken and not self._ending:
                self._urgent.wait(GROUP_S)  # let more records join, unless somebody waits
            self._wake.clear()
            self._urgent.clear()
            ending = self._ending
            try:
                self._beat()
                if self._dirty:
                    self._dirty = False  # before the flush: what comes later wakes us again
                    self._advance(self._flush())
            except JournalError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
                self._fail(
                    JournalError(
                        f"the journal could not be made durable ({type(error).__name__}: {error}). "
                        "The run ends; checkpoints that are committed and the records up to "
                        f"number {self.synced} are safe."
                    )
                )
            if ending:
                return

    def _advance(self, seq: int) -> None:
        with self._progress:
            self.synced = seq
            self._progress.notify_all()
        os.eventfd_write(self._eventfd, 1)
        for listener in self._listeners:
            listener()

    def _fail(self, error: JournalError) -> None:
        with self._progress:
            self._failure = error
            self._progress.notify_all()
        os.eventfd_write(self._eventfd, 1)
