"""An event loop for descriptors, signals, timers and results of threads."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class Loop:
    """Runs callbacks in one thread, the main thread of the process.

    :meth:`post` may be called by any thread; everything else belongs to the loop's own.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def on_readable(self, what: _HasFileno | int, act: Callable[[], None]) -> None:
        """Call ``act`` whenever a descriptor can be read."""
        self._selector.register(what, selectors.EVENT_READ, act)

    def want_writable(self, what: _HasFileno, wanted: bool) -> None:
        """Also call a registered descriptor's callback when it can be written, or no longer."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(what, events, self._selector.get_key(what).data)

    def forget(self, what: _HasFileno | int) -> None:
        """Stop watching a descriptor; it may be unknown."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(what)

    def on_signal(self, signum: int, act: Callable[[], None]) -> None:
        """Call ``act`` in the loop after a signal; several may be taken as one."""
        self._handlers[signum] = act
        signal.signal(signum, _noted)

    def post(self, act: Callable[[], None]) -> None:
        """Call ``act`` in the loop, soon, in the order of the posts."""
        self._posted.append(act)
        with contextlib.suppress(BlockingIOError):  # then it has been woken already
            self._waker.send(b"\0")

    def call_later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Call ``act`` in the loop after a while."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), act))

    def stop(self) -> None:
        """Return from :meth:`run` once the current callbacks are done."""
        self._stopped = True

    def run(self) -> None:
        """Run until :meth:`stop`."""
        while not self._stopped:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _events in self._selector.select(timeout):
                key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._wake.recv(4096):
                for signum in set(data) & self._handlers.keys():
                    self._handlers[signum]()
        for _ in range(len(self._posted)):
            self._posted.popleft()()


def _noted(_signum: int, _frame: FrameType | None) -> Any:
    """Do nothing: the wake-up descriptor has told the loop."""
