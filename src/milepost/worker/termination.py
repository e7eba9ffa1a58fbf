"""SIGTERM to a worker of several, whose machine goes away: all of them are to save.

The signal is told to the controller, which tells all workers, so that they stop at the same report.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from milepost.worker.dialog import Dialog
from milepost.worker.protocol import Preempting

_handler: Any = None
_before: Any = None
_mask = threading.local()
_hooks_set = False


@contextlib.contextmanager
def passed_on(dialog: Dialog) -> Iterator[None]:
    """Pass SIGTERM on to the controller; a second one ends this process, as ever.

    A handler that user code installs takes its place. Processes that user code forks are ended by
    the signal.
    """
    global _handler, _before, _hooks_set

    def received(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, _before)
        dialog.awaits = True  # all stop at the next report
        dialog.tell_soon(Preempting(signal.Signals(signum).name))

    if not _hooks_set:
        _hooks_set = True
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_reset)
    _handler, _before = received, signal.signal(signal.SIGTERM, received)
    try:
        yield
    finally:
        _put_back()


def _put_back() -> None:
    """Do with the signal what was done before, unless user code does something else."""
    global _handler
    if signal.getsignal(signal.SIGTERM) is _handler:
        signal.signal(signal.SIGTERM, _before)
    _handler = None


# Python forgets signals that arrive in a forked process before it is ready; so they wait.


def _hold() -> None:
    _mask.before = None
    if _handler is not None:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release() -> None:
    if _mask.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _reset() -> None:
    if _handler is not None:
        _put_back()
    _release()
