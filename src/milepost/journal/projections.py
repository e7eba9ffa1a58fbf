"""The driver's side of the process that writes result files.

That process follows the journal (:mod:`.writer`), so the driver does nothing for it but wake it
after each flush of the journal: result files lag a few hundredths of a second behind, and cost the
control loop nothing. They may show records that were appended since that flush; should a power loss
take these and leave the files, a restore adds the rows to the journal again (:mod:`.rebuild`).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from typing import Final

from milepost.api.spelling import did_you_mean
from milepost.errors import JournalError, LeaseLostError
from milepost.journal import forked, writer
from milepost.journal.log import Journal
from milepost.journal.projector import KINDS

log = logging.getLogger("milepost.journal")

_FLUSH_S: Final = 60.0
_RESTARTS: Final = 3


class Projections:
    """Has the result files of a run written: ``result.json``, ``progress.csv`` and so on.

    The writer starts at once, in the background. One that was killed is replaced, because the
    journal knows what is missing; one that cannot write is an error of the run.

    *Concurrency*: one thread.

    Args:
        journal: the journal of the run.
        kinds: of ``"json"``, ``"csv"`` and ``"tensorboard"``; ``error.txt`` is always written.

    Raises:
        ValueError: a kind is not known.
        JournalError: the writer cannot be started.
    """

    def __init__(self, journal: Journal, kinds: Collection[str]) -> None:
        for kind in kinds:
            if kind not in KINDS:
                hint = did_you_mean(kind, KINDS)
                raise ValueError(f"unknown kind of result file {kind!r}.{hint}")
        self._journal = journal
        self._kinds = ",".join(sorted(kinds))
        self._lock = threading.Lock()
        self._failure: JournalError | None = None
        self._restarts = 0
        self._events = select.epoll()
        self._asked = 0
        self._flushed = 0
        self._start(again=False)
        forked.register(self)
        journal.subscribe(self._wake)

    def fileno(self) -> int:
        """Readable when :meth:`check` has something to do; stays the same for all writers."""
        return self._events.fileno()

    def check(self) -> None:
        """Log what the writer has to say and replace it if it was killed; never waits.

        Raises:
            JournalError: result files cannot be written.
        """
        while True:
            try:
                message = self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._take(message)

    def flush(self, timeout_s: float = _FLUSH_S) -> None:
        """Wait until the files show every record appended so far.

        Raises:
            JournalError: they cannot be written, or not within ``timeout_s`` seconds.
        """
        if self._failure is not None:
            raise self._failure
        deadline = time.monotonic() + timeout_s
        self._asked += 1
        self._send(writer.FLUSH + b"%d" % self._asked)
        starts = self._restarts
        while self._flushed < self._asked:
            remaining = max(deadline - time.monotonic(), 0)
            if not select.select([self._channel], [], [], remaining)[0]:
                raise JournalError(
                    f"the result files of {self._journal.experiment.path} were not complete after "
                    f"{timeout_s:g} s; the journal has all rows"
                )
            self._take(self._receive())
            if self._restarts != starts:
                starts = self._restarts
                self._send(writer.FLUSH + b"%d" % self._asked)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Complete the files and end the writer; safe to call twice.

        Raises:
            JournalError: as :meth:`flush`, unless it was raised before. The writer has ended in
                any case.
        """
        if self._events.closed:
            return
        try:
            if self._failure is None:
                self.flush(timeout_s)
        finally:
            with self._lock:
                self._channel.close()
            self._events.close()
            self._reap(timeout_s)

    def forget(self) -> None:
        """In a forked child: close the socket, so that the driver's death is noticed."""
        self._channel.close()
        self._events.close()

    def _start(self, *, again: bool) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        experiment = self._journal.experiment.path
        arguments = [
            str(theirs.fileno()),
            experiment,
            self._kinds,
            str(self._journal.epoch),
            "again" if again else "first",
        ]
        try:
            self._process = subprocess.Popen(
                # -P: nothing in the user's working directory may stand in for a module of ours.
                [sys.executable, "-P", "-m", "milepost.journal.writer", *arguments],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the driver
            )
        except OSError as error:
            ours.close()
            raise JournalError(f"cannot start the writer of result files: {error}") from error
        finally:
            theirs.close()
        with self._lock:
            self._channel = ours
        self._events.register(ours, select.EPOLLIN)

    def _wake(self) -> None:
        """Called by the journal's thread after each flush."""
        with self._lock:
            if self._channel.fileno() < 0:
                return
            try:
                self._channel.send(writer.WAKE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # it has wake-ups to answer already
            except OSError:
                pass  # it has died: check() reads the end of its messages and replaces it

    def _receive(self, flags: int = 0) -> bytes:
        """The next message; none when the writer has gone."""
        try:
            return self._channel.recv(writer.MESSAGE_BYTES, flags)
        except ConnectionResetError:  # it left messages of ours unread
            return b""

    def _send(self, message: bytes) -> None:
        try:
            self._channel.send(message)
        except OSError:
            self._take(b"")
            self._channel.send(message)

    def _take(self, message: bytes) -> None:
        kind, text = message[:1], message[1:].decode(errors="replace")
        if kind == writer.FLUSHED:
            self._flushed = int(text)
        elif kind == writer.NOTICE:
            log.warning("%s", text)
        elif kind == writer.FAILED:
            self._failure = JournalError(
                f"cannot write result files in {self._journal.experiment.path}: {text}. "
                "The journal has all rows, and checkpoints are safe."
            )
            raise self._failure
        elif kind == writer.LOST:
            self._failure = LeaseLostError(f"{text}. This run ends.")
            raise self._failure
        elif self._failure is not None:
            raise self._failure
        else:
            self._replace()

    def _replace(self) -> None:
        status = self._process.wait()
        if self._restarts >= _RESTARTS:
            self._failure = JournalError(
                f"the writer of result files ended {self._restarts + 1} times, at last with "
                f"status {status}. The journal has all rows, and checkpoints are safe."
            )
            raise self._failure
        self._restarts += 1
        log.warning(
            "the writer of result files ended with status %d; starting another, which completes "
            "the files from the journal",
            status,
        )
        with self._lock:
            self._channel.close()
        self._start(again=True)

    def _reap(self, timeout_s: float) -> None:
        if self._process.poll() is not None:
            return
        # Not Popen.wait() with a timeout, which sleeps up to 50 ms at a time.
        ended = os.pidfd_open(self._process.pid)
        ending = select.poll()
        ending.register(ended, select.POLLIN)
        if not ending.poll(timeout_s * 1000):
            log.warning("the writer of result files did not end within %g s; killing it", timeout_s)
            self._process.kill()
        os.close(ended)
        self._process.wait()


def _environment() -> dict[str, str]:
    """The driver's environment, in which this package can be imported."""
    import milepost

    root = os.path.dirname(os.path.dirname(os.path.abspath(milepost.__file__)))
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, root])}
