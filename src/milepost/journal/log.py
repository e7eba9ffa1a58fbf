"""The experiment's log, as its one writer sees it.

:meth:`Journal.open` takes the experiment over: it gets the lease, begins a new epoch by creating
its file, and names in that file's first record how far the file before it counts. In that order:
once the file exists, whoever held the experiment before notices it before acting on anything
that we did not read.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final
from zlib import crc32

import msgspec

from milepost.errors import JournalCorruptError, JournalError, LeaseLostError
from milepost.journal import chain, epochs, lines
from milepost.journal import experiment as experiments
from milepost.journal import lease as leases
from milepost.journal.chain import Mark
from milepost.journal.epochs import Segment
from milepost.journal.experiment import Experiment, writer_version
from milepost.journal.image import RunImage
from milepost.journal.lease import Lease
from milepost.journal.records import SCHEMA, AnyRecord, Closed, Continued, Opened
from milepost.journal.sync import Syncer
from milepost.storage import posix

log = logging.getLogger("milepost.journal")

SEGMENT_BYTES: Final = 8 << 20
_SYNC_S: Final = 60.0
_ENCODE: Final = msgspec.json.Encoder().encode


class Journal:
    """The append-only log of a live experiment.

    *Concurrency*: one thread appends; :attr:`synced`, :meth:`sync` and :meth:`fileno` may be used
    by others. A process forked off this one must not use it.
    *After a crash*: records that :attr:`synced` covered are there, later ones may be; a torn last
    line is ignored.

    Attributes:
        experiment: whose journal it is.
        inherited: the state of the run just before this epoch, if it was opened with ``repair``.
    """

    def __init__(
        self,
        experiment: Experiment,
        lease: Lease,
        segment: Segment,
        fd: int,
        first: bytes,
        seq: int,
        segment_bytes: int,
        inherited: RunImage | None = None,
    ) -> None:
        self.experiment = experiment
        self.inherited = inherited
        self._lease = lease
        self._segment = segment
        self._fd = fd
        self._length = len(first)
        self._crc = crc32(first)
        self._seq = seq
        self._segment_bytes = segment_bytes
        self._flushing = threading.Lock()
        self._broken: JournalError | None = None
        self._told = False
        self._closed = False
        self._beat_due = time.monotonic() + leases.HEARTBEAT_S
        self._syncer = Syncer(self._flush, seq, self._beat, leases.HEARTBEAT_S)

    @classmethod
    def open(
        cls,
        experiment: Experiment,
        *,
        lease: Lease | None = None,
        repair: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Journal:
        """Take the experiment over and begin a new epoch.

        Args:
            experiment: an existing experiment.
            lease: the lease, if the caller has it already; it belongs to the journal from now on.
            repair: read the whole journal, and if it is damaged, or if the trials' files tell of
                more than it does, make it whole as :mod:`.repair` describes. What it amounts to
                is :attr:`inherited`.
            segment_bytes: size of a file at which the next one is begun.

        Raises:
            LeaseLostError: another driver holds the experiment; the message says which.
            JournalCorruptError: the journal is damaged before its end; with ``repair``: it holds
                whole records that are not understood.
            JournalError: it cannot be read or written, or a newer version wrote it.
        """
        path = experiment.path
        lease = lease if lease is not None else leases.acquire(path)
        fd = -1
        has_records = False
        inherited = None
        try:
            experiments.secure(experiment)
            if repair and not os.path.isdir(epochs.journal_directory(path)):
                posix.durable_makedirs(epochs.journal_directory(path))
            newest = epochs.newest_epoch(path)
            has_records = newest > 0
            # A repair writes a file before ours, also when there is none.
            segment = Segment(max(newest, 1 if repair else 0) + 1, 1)
            fd = posix.create_new(os.path.join(epochs.journal_directory(path), segment.name))
            if repair:
                from milepost.journal.repair import make_whole

                inherited = make_whole(experiment, segment)
            mark, last = _settle(experiment)
            opened = Opened(
                at=time.time(),
                schema=SCHEMA,
                uuid=experiment.uuid,
                epoch=segment.epoch,
                host=os.uname().nodename,
                pid=os.getpid(),
                writer=writer_version(),
                previous_epoch=mark.segment.epoch,
                previous_segment=mark.segment.number,
                previous_length=mark.length,
                previous_crc=mark.crc,
            )
            first = lines.make(last + 1, _ENCODE(opened))
            posix.append(fd, first)
            posix.fsync(fd)
            posix.fsync_dir(epochs.journal_directory(path))
            _check_fence(path, segment.epoch)
            return cls(experiment, lease, segment, fd, first, last + 1, segment_bytes, inherited)
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            lease.release()
            if isinstance(error, FileExistsError):
                raise LeaseLostError(
                    f"another driver took {path} over at the same time; nothing was changed"
                ) from error
            if isinstance(error, OSError):
                safe = "Earlier records are intact." if has_records else "It has no records yet."
                raise JournalError(f"cannot open the journal of {path}: {error}. {safe}") from error
            raise

    @property
    def epoch(self) -> int:
        """The number under which this driver holds the experiment."""
        return self._segment.epoch

    @property
    def first_segment(self) -> Segment:
        """The file with which this epoch began."""
        return Segment(self._segment.epoch, 1)

    @property
    def seq(self) -> int:
        """Number of the last appended record."""
        return self._seq

    @property
    def synced(self) -> int:
        """Number of the last record that a power loss keeps."""
        return self._syncer.synced

    def append(self, record: AnyRecord, *, wake: bool = True) -> int:
        """Write a record to the file, without waiting for the device.

        Args:
            record: what to append.
            wake: whether the thread that flushes is woken at once, or by :meth:`wake`. Two threads
                of one interpreter that wake at the same time hold each other up.

        Returns:
            Its number; it is durable once :attr:`synced` has reached it.

        Raises:
            JournalError: it could not be written, or an earlier one not made durable. The run
                must end; nothing more is written.
            LeaseLostError: another driver has taken the experiment over.
        """
        failure = self._broken or self._syncer.failure
        if failure is not None or self._closed:
            self._told = True
            raise failure or JournalError(f"the journal of {self.experiment.path} is closed")
        if self._length >= self._segment_bytes and self._may_rotate():
            self.rotate()
        self._write(_ENCODE(record))
        if wake:
            self._syncer.wake()
        return self._seq

    def wake(self) -> None:
        """Have what was appended flushed soon."""
        self._syncer.wake()

    def fileno(self) -> int:
        """A descriptor that is readable after :attr:`synced` advanced or a flush failed."""
        return self._syncer.fileno()

    def acknowledge(self) -> None:
        """Take note of what :meth:`fileno` signalled.

        Raises:
            JournalError: a flush failed; the run must end.
            LeaseLostError: another driver has taken the experiment over.
        """
        self._syncer.acknowledge()
        if self._syncer.failure is not None:
            self._told = True
            raise self._syncer.failure

    def sync(self, timeout_s: float = _SYNC_S) -> None:
        """Wait until everything appended so far is durable.

        Raises:
            JournalError: it is not, and will not be, or not within ``timeout_s`` seconds.
            LeaseLostError: another driver has taken the experiment over.
        """
        try:
            self._syncer.wait(self._seq, timeout_s)
        except JournalError:
            self._told = True
            raise

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener()``, on another thread, each time :attr:`synced` has advanced."""
        self._syncer.subscribe(listener)

    def rotate(self) -> None:
        """Go on in a new file, so that the one before can be compacted into a snapshot.

        Waits until the old file is durable, because the new one vouches for it.

        Raises:
            JournalError: as :meth:`append` and :meth:`sync`.
        """
        self.sync()
        path = self.experiment.path
        segment = Segment(self.epoch, self._segment.number + 1)
        continued = Continued(
            at=time.time(),
            schema=SCHEMA,
            uuid=self.experiment.uuid,
            epoch=segment.epoch,
            segment=segment.number,
            writer=writer_version(),
            previous_epoch=self.epoch,
            previous_segment=self._segment.number,
            previous_length=self._length,
            previous_crc=f"{self._crc:08x}",
        )
        with self._flushing:
            directory = epochs.journal_directory(path)
            try:
                fd = posix.create_new(os.path.join(directory, segment.name))
                old, self._fd = self._fd, fd
                os.close(old)
                self._segment, self._length, self._crc = segment, 0, 0
                posix.fsync_dir(directory)
            except OSError as error:
                raise self._break(error) from error
        self._write(_ENCODE(continued))
        self._syncer.wake()

    def close(self, outcome: str | None) -> None:
        """Make everything durable, end the epoch in order and give the experiment free.

        Args:
            outcome: how the run ended: "finished", "interrupted" or "failed"; None writes no
                last record.

        Raises:
            JournalError: something could not be made durable and nobody has been told before.
                The experiment is free in any case.
        """
        if self._closed:
            return
        try:
            if outcome is not None and self._broken is None and self._syncer.failure is None:
                self.append(Closed(at=time.time(), outcome=outcome))
                self.sync()
        finally:
            self._closed = True
            self._syncer.close()
            os.close(self._fd)
            self._lease.release()
        failure = self._broken or self._syncer.failure
        if failure is not None and not self._told:
            self._told = True
            raise failure

    def _write(self, encoded: bytes) -> None:
        line = lines.make(self._seq + 1, encoded)
        try:
            posix.append(self._fd, line)
        except OSError as error:
            raise self._break(error) from error
        self._length += len(line)
        self._crc = crc32(line, self._crc)
        self._seq += 1
        self._syncer.appended()

    def _break(self, error: OSError) -> JournalError:
        """Remember that the file may end in half a line, after which nothing must be written."""
        self._told = True
        self._broken = JournalError(
            f"cannot write to the journal of {self.experiment.path}: {error}. The run ends; "
            f"committed checkpoints and the records up to number {self._seq} are safe."
        )
        return self._broken

    def require_held(self) -> None:
        """Make sure that nobody has taken the experiment over.

        Raises:
            LeaseLostError: another driver has.
        """
        _check_fence(self.experiment.path, self._segment.epoch)

    def _may_rotate(self) -> bool:
        """Whether this is a good moment: nothing to wait for, or the file has grown too much."""
        return self._syncer.synced == self._seq or self._length >= 2 * self._segment_bytes

    def _flush(self) -> int:
        with self._flushing:
            seq = self._seq
            posix.fsync(self._fd)
        # After the flush: a taker creates its file before it reads ours, so a record that was
        # durable before that file existed is one that the taker has read.
        _check_fence(self.experiment.path, self._segment.epoch)
        return seq

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_due:
            self._beat_due = time.monotonic() + leases.HEARTBEAT_S
            _check_fence(self.experiment.path, self._segment.epoch)
            self._lease.beat()


def _settle(experiment: Experiment) -> tuple[Mark, int]:
    """Where the journal ends, durably, and the number of its last record."""
    path = experiment.path
    tip = chain.newest(path)
    if tip is None:
        return chain.START, 0
    if tip.head.uuid != experiment.uuid:
        raise JournalCorruptError(
            f"{tip.path} belongs to experiment {tip.head.uuid}, not to {experiment.uuid}"
        )
    # What a dead driver left may be in memory only; what we build upon must not vanish later.
    posix.fsync_file(tip.path)
    reader = tip.reader()
    last = 0
    for last, _ in reader:  # noqa: B007 - the number of the last line is what we want
        pass
    if reader.torn:
        log.warning(
            "the last %d bytes of %s are no whole record; ignoring them", reader.torn, tip.path
        )
    return Mark(tip.segment, reader.length, reader.crc), last


def _check_fence(experiment_path: str, epoch: int) -> None:
    newest = epochs.newest_epoch(experiment_path)
    if newest > epoch:
        holder = leases.holder_of(experiment_path)
        raise LeaseLostError(
            f"{experiment_path} was taken over by "
            f"{holder.describe() if holder is not None else 'another driver'} (epoch {newest}, "
            f"ours is {epoch}). This run ends; it has published and deleted nothing since."
        )
