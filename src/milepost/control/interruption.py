"""Ctrl-C: the first one ends the run in order, the second one at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger("milepost.control")


class Interruption:
    """Listens to SIGINT and SIGUSR1 while a run goes on; the handlers before are put back.

    Only the main thread can do that; elsewhere it never reports anything. SIGINT is left alone
    with ``TUNE_DISABLE_SIGINT_HANDLER=1``.
    """

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._before: dict[int, Any] = {}
        self.signal: int | None = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for signum in _signals():
                self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            # None: it was installed by something that is not Python, and cannot be put back.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        os.close(self._wake)

    def fileno(self) -> int:
        """Readable once the run is to end."""
        return self._wake

    def acknowledge(self) -> None:
        """Take note of it."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _received(self, signum: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signum
            os.eventfd_write(self._wake, 1)
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt


def _signals() -> list[int]:
    wanted = [signal.SIGUSR1]
    if os.environ.get("TUNE_DISABLE_SIGINT_HANDLER") != "1":
        wanted.append(signal.SIGINT)
    return [int(signum) for signum in wanted]
