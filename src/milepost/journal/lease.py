"""Who may write to an experiment: one driver at a time.

The holder keeps an exclusive ``flock`` on ``.milepost/lock``, so on one machine a dead holder is
replaced at once and a live or stopped one never. Where other machines may write to the same
storage, their locks may not reach us; then a holder is dead only when the counter that it
advances in that file stood still for :data:`SILENCE_S` on *our* monotonic clock. Clocks of
different machines are never compared. Either way the take-over itself is the exclusive creation
of the next epoch's file, which the old holder notices before it acts again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable
from typing import Final

import msgspec

from milepost.errors import JournalError, LeaseLostError
from milepost.journal import experiment as experiments
from milepost.journal import forked
from milepost.journal.mounts import is_local
from milepost.process import boot_id, started_at
from milepost.storage import posix

log = logging.getLogger("milepost.journal")

LOCK_NAME: Final = "lock"
HEARTBEAT_S: Final = 5.0
SILENCE_S: Final = 30.0
_LOOK_EVERY_S: Final = 1.0
_CLOCK_SLACK_S: Final = 2.0
_NAMING_S: Final = 1.0
_NAMING_POLL_S: Final = 0.005
_WIDTH: Final = 512


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock file says about who holds the experiment.

    Attributes:
        host: name of its machine.
        boot: id of that machine's last boot; equal ids mean the same running kernel.
        pid: its process id there.
        since: when it took the lease, seconds since its epoch, for people only.
        beat: grows while it lives.
        released: it ended in order.
        inode: of the lock file that it holds; a copy of the experiment has another one.
    """

    host: str
    boot: str
    pid: int
    since: float
    beat: int = 0
    released: bool = False
    inode: int = 0

    def describe(self) -> str:
        """Who and since when, for messages."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on host {self.host} since {since}"


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(Holder).decode


class Lease:
    """The right to write to an experiment, held until :meth:`release` or the process ends.

    A process that was forked off the holder does not hold it.
    """

    def __init__(self, fd: int, holder: Holder) -> None:
        self._fd = fd
        self._holder = holder
        forked.register(self)

    @property
    def holder(self) -> Holder:
        """What we wrote into the lock file."""
        return self._holder

    def beat(self) -> None:
        """Show that we live; at least every :data:`HEARTBEAT_S` seconds.

        Raises:
            OSError: the lock file cannot be written.
        """
        self._holder = msgspec.structs.replace(self._holder, beat=self._holder.beat + 1)
        _write(self._fd, self._holder)

    def release(self) -> None:
        """Give the experiment free; safe to call twice."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            _write(fd, msgspec.structs.replace(self._holder, released=True))
        except OSError as error:
            log.info("could not mark the lease as released, the next driver may wait: %s", error)
        finally:
            os.close(fd)

    def forget(self) -> None:
        """In a forked child: drop the descriptor, so that the lock ends with the parent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def acquire(
    experiment_path: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    local: bool | None = None,
) -> Lease:
    """Take the lease of an experiment, waiting only where a holder on another machine may be dead.

    Args:
        experiment_path: the experiment's directory.
        clock: our monotonic clock, in seconds.
        sleep: waits that many seconds.
        local: whether no other machine can reach the storage; None looks at the mount.

    Raises:
        LeaseLostError: somebody else holds it; the message says who.
        JournalError: the lock file cannot be used.
    """
    path = os.path.join(experiment_path, experiments.HOME, LOCK_NAME)
    try:
        fd = open_lock(path)
    except OSError as error:
        raise JournalError(f"cannot open {path}: {error}. Nothing was changed.") from error
    try:
        locked = _flock(fd, experiment_path)
        if local is None:
            local = is_local(experiment_path)
        holder = _read(fd)
        if holder is not None and _has_other_file(holder, fd):
            holder = None
        # Only a lock that every possible holder would share proves that the holder is dead.
        proven = locked and (local or (holder is not None and holder.boot == boot_id()))
        if holder is not None and not holder.released and not proven:
            _watch(fd, holder, experiment_path, clock, sleep)
        if holder is not None and not holder.released:
            log.warning("taking over %s from %s, which is gone", experiment_path, holder.describe())
        ours = Holder(
            host=os.uname().nodename,
            boot=boot_id(),
            pid=os.getpid(),
            since=time.time(),
            inode=os.fstat(fd).st_ino,
            beat=holder.beat + 1 if holder is not None else 0,
        )
        _write(fd, ours)
    except OSError as error:
        os.close(fd)
        raise JournalError(f"cannot use {path}: {error}. Nothing was changed.") from error
    except BaseException:
        os.close(fd)
        raise
    return Lease(fd, ours)


def holder_of(experiment_path: str) -> Holder | None:
    """Who holds the experiment, or held it last; None if nobody ever did."""
    path = os.path.join(experiment_path, experiments.HOME, LOCK_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _read(fd)
    finally:
        os.close(fd)


def is_held(experiment_path: str) -> bool:
    """Whether a live driver on this machine holds the experiment; for notices only.

    The lock itself is not tried: that could make a driver fail that is taking it right now.
    """
    path = os.path.join(experiment_path, experiments.HOME, LOCK_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        holder = _read(fd)
        if holder is None or holder.released or _has_other_file(holder, fd):
            return False
        return _runs_here(holder)
    finally:
        os.close(fd)


def _has_other_file(holder: Holder, fd: int) -> bool:
    """Whether the experiment is a copy, made while somebody held the original.

    Other machines may number files otherwise.
    """
    return holder.boot == boot_id() and holder.inode not in (0, os.fstat(fd).st_ino)


def _runs_here(holder: Holder) -> bool:
    if holder.boot != boot_id():
        return False
    ticks = started_at(holder.pid)
    if not ticks:
        return False
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    # A process that is younger than the lease has only inherited the number.
    return time.time() - age_s <= holder.since + _CLOCK_SLACK_S


def open_lock(path: str) -> int:
    """Open a file for locking and for writing in place, creating it if need be."""
    with contextlib.suppress(FileExistsError):
        os.close(posix.create_new(path))
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _flock(fd: int, experiment_path: str) -> bool:
    """Take the lock; False where the file system has none.

    Raises:
        LeaseLostError: a live or stopped process has it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _held(experiment_path, _name_of_the_locker(fd)) from None
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            log.warning("%s has no file locks; relying on heartbeats", experiment_path)
            return False
        raise
    return True


def _name_of_the_locker(fd: int) -> Holder | None:
    """Who has the lock: it writes its name right after it took it, over that of the one before."""
    deadline = time.monotonic() + _NAMING_S
    while True:
        holder = _read(fd)
        if time.monotonic() >= deadline:
            return holder
        if holder is not None and not holder.released and _may_run(holder):
            return holder
        time.sleep(_NAMING_POLL_S)


def _may_run(holder: Holder) -> bool:
    return holder.boot != boot_id() or _runs_here(holder)


def _watch(
    fd: int,
    first: Holder,
    experiment_path: str,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Return when the holder's counter stood still for long enough."""
    log.warning(
        "%s is held by %s; watching its heartbeat for %.0f s before taking over",
        experiment_path,
        first.describe(),
        SILENCE_S,
    )
    begin = clock()
    while clock() - begin < SILENCE_S:
        sleep(_LOOK_EVERY_S)
        now = _read(fd)
        if now is not None and now.released:
            return
        if now is not None and now != first:
            raise _held(experiment_path, now)


def _held(experiment_path: str, holder: Holder | None) -> LeaseLostError:
    who = holder.describe() if holder is not None else "another process"
    return LeaseLostError(
        f"{experiment_path} is in use by {who}. Nothing was changed. Wait for that run to end, "
        "or stop it; what it has reported and committed can be read meanwhile."
    )


def _write(fd: int, holder: Holder) -> None:
    # One write of a fixed width: a reader sees the old text or the new one.
    posix.pwrite(fd, msgspec.json.encode(holder).ljust(_WIDTH - 1) + b"\n", 0)


def _read(fd: int) -> Holder | None:
    try:
        return _DECODE(os.pread(fd, _WIDTH, 0))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # just created, or torn by a power loss: the lock alone decides
