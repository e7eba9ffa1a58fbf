"""The process that writes result files: ``python -m milepost.journal.writer``.

It follows the journal of one driver, so nothing but a wake-up has to be sent to it, and whatever
happens to it, the next one continues from the journal. It ends when the driver's end of the
socket closes, after it has written everything that the journal has; or when another driver has
taken the experiment over, whose own writer completes the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import sys
import time
from typing import Final

from milepost.errors import JournalError, LeaseLostError
from milepost.journal import compaction, epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal.epochs import Segment, segments
from milepost.journal.lease import open_lock
from milepost.journal.projector import Projector
from milepost.journal.records import Continued
from milepost.journal.tail import Tail
from milepost.storage import posix

log = logging.getLogger("milepost.journal")

WAKE: Final = b"w"
FLUSH: Final = b"f"
FLUSHED: Final = b"F"
FAILED: Final = b"E"
LOST: Final = b"L"
NOTICE: Final = b"N"
MESSAGE_BYTES: Final = 1 << 16

_LOCK_NAME: Final = "writer.lock"
_LOCK_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05


class Writer:
    """Follows a journal and answers its driver.

    Args:
        channel: descriptor of the driver's socket, one message per packet.
        experiment_path: the experiment's directory.
        kinds: which files are wanted.
        first: the file with which the driver's epoch began.
        again: a writer of this epoch ended before; what the journal has now is checked against
            the files, instead of what it had before the epoch.
    """

    def __init__(
        self,
        channel: int,
        experiment_path: str,
        kinds: frozenset[str],
        first: Segment,
        again: bool,
    ) -> None:
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._path = experiment_path
        self._epoch = first.epoch
        self._kinds = kinds
        self._said: set[str] = set()
        self._projector = Projector(experiment_path, kinds, self._notice)
        self._require_epoch()
        segment = first
        if again:
            segment = max(s for s in segments(experiment_path) if s.epoch == first.epoch)
            base = replay.image(experiment_path, segment)
        else:
            base = replay.image_before(experiment_path, first)
        self._projector.adopt(base, replay.settled(experiment_path, segment))
        self._tail = Tail(experiment_path, segment, base.seq)
        if compaction.is_worthwhile(experiment_path, first):
            self._compact(first)

    def run(self) -> None:
        """Follow the journal until the driver has gone."""
        self._advance()  # the first records may be older than this process
        while messages := self._receive():
            self._advance()
            asked = [message for message in messages if message.startswith(FLUSH)]
            if asked:
                os.write(self._channel, FLUSHED + asked[-1][1:])
        self._advance()
        self._tail.close()

    def _receive(self) -> list[bytes]:
        """Wait for a message and take all that are there; none when the driver has gone.

        Many wake-ups may have come meanwhile; one look at the journal answers them all.
        """
        messages = [os.read(self._channel, MESSAGE_BYTES)]
        while messages[-1] and self._poll.poll(0):
            messages.append(os.read(self._channel, MESSAGE_BYTES))
        return messages if messages[-1] else messages[:-1]

    def _advance(self) -> None:
        self._require_epoch()
        for _, record in self._tail.read():
            if isinstance(record, Continued):
                self._compact(Segment(record.epoch, record.segment))
            else:
                self._projector.apply(record)
        self._projector.flush()

    def _compact(self, segment: Segment) -> None:
        self._projector.flush()
        posix.syncfs(self._path)  # before rows leave the journal
        self._require_epoch()
        compaction.compact(self._path, segment, keep_rows="json" not in self._kinds)

    def _require_epoch(self) -> None:
        if epochs.newest_epoch(self._path) > self._epoch:
            raise LeaseLostError(
                f"another driver has taken {self._path} over, and writes its result files now"
            )

    def _notice(self, text: str) -> None:
        if text not in self._said:  # many trials may have the same to say
            self._said.add(text)
            log.warning("%s", text)


def main() -> None:
    """Run a writer as the arguments say: descriptor, experiment, kinds, epoch, again."""
    descriptor, path, kinds, epoch, again = sys.argv[1:]
    channel = int(descriptor)
    os.set_inheritable(channel, False)
    logging.getLogger("milepost").addHandler(_ToDriver(channel))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)  # it ends when its driver does, all written
    try:
        lock = _lock(path)
        wanted = frozenset(kinds.split(",")) if kinds else frozenset()
        Writer(channel, path, wanted, Segment(int(epoch), 1), again == "again").run()
        os.close(lock)
        os._exit(0)  # all is written; the driver waits, and tearing Python down takes a while
    except (BrokenPipeError, ConnectionResetError):
        return  # the driver died while we were answering it; the journal has everything
    except LeaseLostError as error:
        with contextlib.suppress(OSError):  # a dead driver need not know
            os.write(channel, _message(LOST, str(error)))
    except Exception as error:  # noqa: BLE001 - whatever it was, the driver must be told
        import traceback

        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError | JournalError):
            text += "\n" + traceback.format_exc()
        try:
            os.write(channel, _message(FAILED, text))
        except OSError:
            traceback.print_exc()
        sys.exit(1)


class _ToDriver(logging.Handler):
    """Has the driver log what is logged here."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        with contextlib.suppress(OSError):  # the driver has gone; nobody is left to be told
            os.write(self._channel, _message(NOTICE, record.getMessage()))


def _message(kind: bytes, text: str) -> bytes:
    return kind + text.encode(errors="backslashreplace")[: MESSAGE_BYTES - 1]


def _lock(experiment_path: str) -> int:
    """Wait until the writer of a dead driver has finished, and keep later ones waiting."""
    path = os.path.join(experiment_path, experiments.HOME, _LOCK_NAME)
    fd = open_lock(path)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise JournalError(
                    f"another process has been writing result files in {experiment_path} for "
                    f"{_LOCK_S:.0f} s ({path} is locked)"
                ) from None
            time.sleep(_LOOK_EVERY_S)
        else:
            return fd


if __name__ == "__main__":
    main()
