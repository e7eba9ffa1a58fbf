"""Directories that threads of this process still write to, and those that could not be written.

Nothing captures them before they are complete, and no error of theirs gets lost: it is raised to
the first who asks, by the trial's end at the latest, and logged when the process ends before that.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future

from milepost.worker.session import waiting

logger = logging.getLogger("milepost.worker")


class Writing(Future[None]):
    """Done when a directory is complete, or cannot be.

    Attributes:
        asked: whether anybody knows how it ended.
    """

    asked = False

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of any future; whoever calls it knows."""
        error = super().exception(timeout)
        self.asked = True
        return error

    def result(self, timeout: float | None = None) -> None:
        """As of any future; whoever calls it knows."""
        error = self.exception(timeout)
        if error is not None:
            raise error


#: By real path. What has been written is not in it any more.
_writings: dict[str, Writing] = {}
_at_exit = False

# A child has the memory of its parent, and not the threads.
os.register_at_fork(after_in_child=_writings.clear)


def begin(directory: str, write: Callable[[], None]) -> Future[None]:
    """Write to a directory in a thread of its own, for which the end of the process waits.

    Args:
        directory: where; whatever failed in it before does not count any more.
        write: does it.

    Returns:
        What is done when it is written, and raises what ``write`` raised.
    """
    global _at_exit
    if not _at_exit:
        _at_exit = True
        atexit.register(log_failed)
    path = os.path.realpath(directory)
    writing = Writing()
    writing.set_running_or_notify_cancel()  # it cannot be cancelled
    _writings[path] = writing
    threading.Thread(target=_carry_out, args=(path, writing, write), name="milepost-write").start()
    return writing


def forget(directory: str) -> None:
    """Take a directory for one that nothing was written to; that is over, and was asked for."""
    _writings.pop(os.path.realpath(directory), None)


def wait_for(directory: str) -> None:
    """Wait until a directory, with all that is below it, is complete.

    Raises:
        Exception: because of which it cannot be; every time.
    """
    if not _writings:
        return
    path = os.path.realpath(directory)
    for each, writing in list(_writings.items()):
        if each == path or each.startswith(os.path.join(path, "")):
            with waiting():
                writing.result()


def raise_failed() -> None:
    """Wait until everything has ended.

    Raises:
        Exception: why a directory could not be written, if nobody has asked for that.
    """
    for writing in list(_writings.values()):
        if not writing.asked:
            with waiting():
                writing.result()


def log_failed() -> None:
    """Wait until everything has ended; log what nobody has asked for: nobody could catch it."""
    for writing in list(_writings.values()):
        if not writing.asked:
            with waiting():
                error = writing.exception()
            if error is not None:
                logger.error("a directory could not be written:", exc_info=error)


def _carry_out(path: str, writing: Writing, write: Callable[[], None]) -> None:
    try:
        write()
    except BaseException as error:  # noqa: BLE001 - is raised to whoever asks
        trace = error.__traceback__
        assert trace is not None
        traceback.clear_frames(trace)  # which hold what was to be written
        error.add_note(f"raised while {path} was written beside the training; it is not complete")
        writing.set_exception(error.with_traceback(trace.tb_next))
    else:
        # Before it is told: who is told may write there again.
        _writings.pop(path, None)
        writing.set_result(None)
