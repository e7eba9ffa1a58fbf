"""Signals that end a run early: Ctrl-C, SIGTERM, SIGUSR1.

Handlers only take note and wake the loop, which acts where nothing is half done. The first signal
has trials save and stop. SIGTERM and SIGUSR1 set a deadline for that, a second SIGTERM makes it
now; a second Ctrl-C kills everything at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from milepost.api.environment import seconds
from milepost.control import user_code

GRACE_VARIABLE: Final = "MILEPOST_GRACE_S"
DEFAULT_GRACE_S: Final = 30.0

#: How long a run may take to close, past its deadline or in a hurry.
CLOSE_S: Final = 5.0
_HURRY_S: Final = 1.0
_LOOK_S: Final = 0.5
_SIGNALS: Final = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


def grace_s() -> float:
    """How long trials may take to stop after SIGTERM or SIGUSR1: ``$MILEPOST_GRACE_S``, or 30 s.

    Raises:
        ValueError: the variable is set and is not a number of seconds.
    """
    return seconds(
        GRACE_VARIABLE,
        DEFAULT_GRACE_S,
        "It says how long trials may take to stop after SIGTERM or SIGUSR1; without it, that is "
        f"{DEFAULT_GRACE_S:g} s",
    )


class Interruption:
    """Listens to signals while a run goes on; the handlers before are put back.

    Only the main thread can do that; elsewhere it never reports anything. Signals that the
    process ignores stay ignored, and SIGINT is left alone with
    ``TUNE_DISABLE_SIGINT_HANDLER=1``.

    On leaving it raises what its signals call for: ``KeyboardInterrupt`` after a second Ctrl-C,
    and after SIGTERM ``SystemExit(143)``; a handler of the user's for SIGTERM is called instead.

    Attributes:
        signal: the last one, or None.
        deadline: when trials must have stopped, in monotonic seconds; None without one.
        urgent: everything is to end now.
        within: the code that carries out the run; what it calls of users' is interrupted if it
            has not returned by the deadline.
        cut_off: what was interrupted because it did not return, for people; empty if nothing was.

    Raises:
        ValueError: ``MILEPOST_GRACE_S`` is no number of seconds.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.deadline: float | None = None
        self.urgent = False
        self.within: CodeType | None = None
        self.cut_off = ""
        self._grace_s = grace_s()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._before: dict[signal.Signals, Any] = {}
        self._terminated = False
        self._closing = False
        self._breakable = False
        self._over = False
        self._pid = os.getpid()
        self._main = threading.get_ident()
        self._insisting = threading.Lock()
        self._insists = False
        self._looks = False
        self._call: FrameType | None = None
        self._watches: list[threading.Timer] = []

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:  # SIGINT is the first: from there on nothing is raised
                if _is_ours(signum):
                    self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._insisting:
            self._over = True
        for watch in self._watches:
            watch.cancel()
            watch.join()
        self._call = None
        wake, self._wake = self._wake, -1
        os.close(wake)
        before = dict(reversed(self._before.items()))
        self._before.clear()
        for signum, handler in before.items():
            # None: it was installed by something that is not Python, and cannot be put back.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if kind is None or kind is KeyboardInterrupt:
            if self._terminated:
                _terminate(before.get(signal.SIGTERM))
            elif self.urgent and kind is None:
                raise KeyboardInterrupt

    # --- for the loop -----------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable once there is something to act upon."""
        return self._wake

    def acknowledge(self) -> bool:
        """Take note of what has come; return whether there was anything."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return False
        return True

    @property
    def reason(self) -> str:
        """The last signal's name."""
        return self.signal.name if self.signal is not None else ""

    def describe(self) -> str:
        """What the signals mean for the run, as one line for people."""
        text = f"{self.reason}: trials save and stop at their next report, and no more are started."
        if self.deadline is None:
            return text + " Press Ctrl-C again to stop at once."
        left_s = max(0.0, self.deadline - time.monotonic())
        return text + (
            f" Those that have not stopped in {left_s:.0f} s are killed ({GRACE_VARIABLE})."
        )

    def describe_cut(self) -> str:
        """What was interrupted because it did not return, as one line for people."""
        by = f" by the deadline ({GRACE_VARIABLE})" if self.deadline is not None else ""
        return (
            f"{self.reason}: {self.cut_off} runs in the driver and has not returned{by}, so it was "
            "interrupted. Workers are killed now; what they have captured is kept."
        )

    @property
    def deadline_ms(self) -> int | None:
        """The deadline in milliseconds since the epoch."""
        if self.deadline is None:
            return None
        return round((time.time() + self.deadline - time.monotonic()) * 1000)

    def close_down(self) -> None:
        """From now on interrupt nothing but what is :meth:`breakable`, so that all is closed."""
        self._closing = True

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """A wait that may be cut off by ``KeyboardInterrupt`` without harm."""
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False

    def patience_s(self, most_s: float) -> float:
        """How long something that is being closed may be waited for, at most ``most_s``."""
        if self.urgent:
            return min(most_s, _HURRY_S)
        if self.deadline is None:
            return most_s
        return min(most_s, max(_HURRY_S, self.deadline + CLOSE_S - time.monotonic()))

    # --- handlers ---------------------------------------------------------------------------

    def _received(self, signum: int, frame: FrameType | None) -> None:
        """Take note. Raises only where it is safe, or where the loop does not get its turn."""
        if os.getpid() != self._pid:
            self._pass_on(signal.Signals(signum))
            return
        if self._looks:
            self._looks = False
            self._look(frame)
            return
        if self._insists:
            self._insists = False
            self._hurry(frame)
            return
        before, self.signal = self.signal, signal.Signals(signum)
        now = time.monotonic()
        if signum == signal.SIGINT:
            if before is not None:
                self._hurry(frame)
        else:
            again = signum == signal.SIGTERM and self._terminated
            self._terminated |= signum == signal.SIGTERM
            deadline = now if again else now + self._grace_s
            if self.deadline is None or deadline < self.deadline:
                self.deadline = deadline
                self._watch(deadline - now, self._ask_to_look)
                self._watch(deadline - now + 2 * CLOSE_S, self._insist)
            if again and self._breakable:
                self._hurry(frame)
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _hurry(self, frame: FrameType | None) -> None:
        if self._breakable or (self.urgent and not self._closing):
            self.urgent = True
            call = user_code.running(frame, self.within)
            if call is not None:
                self.cut_off = user_code.describe(call)
            raise KeyboardInterrupt
        if not self.urgent:
            self.urgent = True
            self._watch(_HURRY_S, self._insist)

    def _look(self, frame: FrameType | None) -> None:
        """The deadline has passed: interrupt a call of users' code that lasts."""
        call, before = user_code.running(frame, self.within), self._call
        self._call = None if call is before else call
        self._watch(_LOOK_S, self._ask_to_look)  # again, as users may catch what is raised
        if call is not None and call is before:
            self.urgent = True
            self.cut_off = user_code.describe(call)
            os.eventfd_write(self._wake, 1)
            raise KeyboardInterrupt

    def _watch(self, seconds: float, then: Callable[[], None]) -> None:
        """See that the signal has an effect though code of users does not return in the driver."""
        watch = threading.Timer(seconds, then)
        watch.daemon = True
        watch.start()
        self._watches.append(watch)

    def _insist(self) -> None:
        with self._insisting:
            in_hand = self._over or (self._closing and self.urgent)
            if not in_hand and self.signal is not None:
                self.urgent = self._insists = True
                signal.pthread_kill(self._main, self.signal)

    def _ask_to_look(self) -> None:
        with self._insisting:
            if not self._over and not self._closing and self.signal is not None:
                self._looks = True
                signal.pthread_kill(self._main, self.signal)

    def _pass_on(self, signum: signal.Signals) -> None:
        """In a fork of the driver, which no run is in: do what would be done without us."""
        handler = self._before.get(signum)
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        signal.raise_signal(signum)


def _is_ours(signum: signal.Signals) -> bool:
    if signum == signal.SIGINT and os.environ.get("TUNE_DISABLE_SIGINT_HANDLER") == "1":
        return False
    return signal.getsignal(signum) is not signal.SIG_IGN


def _terminate(handler: Any) -> None:
    """Do what SIGTERM asks for, now that everything is closed."""
    if callable(handler):
        signal.raise_signal(signal.SIGTERM)
    else:
        sys.exit(128 + signal.SIGTERM)
