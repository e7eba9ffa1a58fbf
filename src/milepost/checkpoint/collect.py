"""Deleting checkpoints, and what crashes left behind."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from enum import StrEnum

import msgspec

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME, own_name
from milepost.errors import CheckpointError
from milepost.storage import names, posix

log = logging.getLogger("milepost.checkpoint")

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})


class Retirement(StrEnum):
    """What became of a checkpoint that was to be deleted."""

    DELETED = "deleted"
    """It is gone; should bytes of it remain, a sweep removes them."""
    GONE = "gone"
    """It was not there any more."""
    BUSY = "busy"
    """Somebody reads it; it is untouched. Try again later."""


def retire(checkpoint_dir: str, *, fence: Callable[[], None] | None = None) -> Retirement:
    """Delete a committed checkpoint.

    *Atomicity*: it disappears from readers at once, whole, before any of its bytes goes.
    *Durability*: when this returns ``DELETED``, a power loss does not bring it back.
    *Concurrency*: a checkpoint that somebody holds by ``as_directory`` is left alone.
    *After a crash*: it is there, whole, or a ``.milepost-trash-`` name is left to :func:`sweep`.

    Repeating it is safe.

    Args:
        checkpoint_dir: the checkpoint.
        fence: called right before it disappears; raises
            (:class:`~milepost.errors.LeaseLostError`) when this process may not delete any more.

    Raises:
        CheckpointError: the directory has no manifest, so it is not ours to delete.
        OSError: it could not be renamed; it is untouched.
    """
    fd = _open_manifest(checkpoint_dir)
    if fd is None:
        return Retirement.GONE
    trial_dir = os.path.dirname(checkpoint_dir)
    trash = names.trash(checkpoint_dir)
    try:
        if not _lock_exclusive(fd):
            return Retirement.BUSY
        if fence is not None:
            fence()
        # Renamed while we hold the lock: a reader that waits for it then finds the name gone.
        try:
            posix.rename_noreplace(checkpoint_dir, trash)
        except FileNotFoundError:
            return Retirement.GONE
    finally:
        os.close(fd)
    # Before any byte goes: else a power loss could bring back the name, but not the bytes.
    posix.fsync_dir(trial_dir)
    _remove_trash(trash)
    return Retirement.DELETED


def is_another(checkpoint_dir: str, index: int) -> bool:
    """Tell whether the directory of a checkpoint is gone, and another one has its name by now.

    That cannot be where the number is part of the name.

    Raises:
        CheckpointError: its manifest cannot be read, so it cannot be told.
    """
    if own_name(index, checkpoint_dir) is msgspec.UNSET:
        return False
    try:
        return manifests.read(checkpoint_dir).index != index
    except FileNotFoundError:
        return False


def sweep(trial_dir: str) -> list[str]:
    """Remove what crashes left in a trial's directory, by name: ``.milepost-tmp-*``, ``-trash-*``.

    Only for the process that holds the experiment, while no commit of its own runs there. What
    another live process of this machine works with (the writer of result files, say) is left alone
    (:func:`~milepost.storage.names.is_abandoned`). Other names are never touched.

    Returns:
        The names that were removed. One that cannot be removed is one warning.
    """
    try:
        with os.scandir(trial_dir) as entries:
            leftovers = sorted(entry.name for entry in entries if names.is_abandoned(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in leftovers if _remove_trash(os.path.join(trial_dir, name))]


def _open_manifest(checkpoint_dir: str) -> int | None:
    path = os.path.join(checkpoint_dir, MANIFEST_NAME)
    try:
        try:
            # NFS takes an exclusive lock on files open for writing only.
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not os.path.lexists(checkpoint_dir):
            return None
        raise CheckpointError(
            f"{checkpoint_dir} has no manifest ({MANIFEST_NAME}), so Milepost did not make it and "
            "does not delete it; nothing was changed"
        ) from None


def _lock_exclusive(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        # Readers have no locks either on such a file system; they see a missing file at worst.
        log.debug("this file system has no locks (%s)", error)
    return True


def _remove_trash(path: str) -> bool:
    try:
        posix.remove_tree(path)
    except OSError as error:
        log.warning("%s could not be removed and is left for the next sweep: %s", path, error)
        return False
    return True
