"""Reading a checkpoint: handing out its directory, copying it, and its metadata file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
from collections.abc import Iterator
from typing import Any

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.manifest import MANIFEST_NAME, METADATA_NAME, Manifest
from milepost.checkpoint.tree import Item, is_listed, new_hasher, walk
from milepost.errors import CorruptCheckpointError
from milepost.storage import names, posix
from milepost.storage.lock import path_lock

log = logging.getLogger("milepost.checkpoint")

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@contextlib.contextmanager
def reading(directory: str) -> Iterator[Manifest | None]:
    """Keep a checkpoint from being collected while it is read, and check its files' sizes.

    Yields:
        Its manifest, or None for a directory without one, which is used unverified.

    Raises:
        FileNotFoundError: there is no such directory (any more).
        NotADirectoryError: it is a file.
        CorruptCheckpointError: its files are not those of the manifest.
    """
    held = hold(directory)
    if held is None:
        if not os.path.isdir(directory):
            raise _missing(directory)
        yield None
        return
    try:
        manifest = manifests.read(directory)
        verify.require_good(directory, manifest)
        yield manifest
    finally:
        held.release()


class Held:
    """A committed checkpoint that is not collected before :meth:`release`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._owner = os.getpid()

    def release(self) -> None:
        """Let it be collected again; call it once."""
        # A process that was forked meanwhile (a data loader) shares the lock: it must neither
        # release it when it ends, nor keep it when we do.
        if os.getpid() == self._owner:
            with contextlib.suppress(OSError):  # no locks here, see hold()
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def hold(directory: str) -> Held | None:
    """Keep a checkpoint from being collected, without a look at what is in it.

    Returns:
        None for a directory without a manifest, which is never collected, nor looked for.

    Raises:
        FileNotFoundError: it was collected meanwhile.
    """
    path = os.path.join(directory, MANIFEST_NAME)
    if not os.access(path, os.F_OK):  # most that are reported; an exception would cost more
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.debug("%s cannot be locked (%s); it is read without a lock", path, error)
        # The collector may have renamed the checkpoint away while we waited for the lock.
        if not (os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(fd))):
            raise _missing(directory)
    except BaseException:
        os.close(fd)
        raise
    return Held(fd)


def _missing(directory: str) -> FileNotFoundError | NotADirectoryError:
    if os.path.exists(directory):
        return NotADirectoryError(
            errno.ENOTDIR,
            "a checkpoint is a directory, and this is a file; give the directory that holds it",
            directory,
        )
    return FileNotFoundError(
        errno.ENOENT, "the checkpoint directory does not exist (any more)", directory
    )


def copy_out(directory: str, target: str) -> None:
    """Copy a checkpoint's files to ``target``; see :meth:`Checkpoint.to_directory`."""
    if not os.path.isdir(directory):
        raise _missing(directory)
    with path_lock(target) as at_once:
        if not at_once:
            # Somebody copied it while we waited. Ray's rule: then it is there, or it is an error.
            if not os.path.isdir(target):
                raise RuntimeError(
                    f"another thread or process was copying {directory} to {target} and failed; "
                    "call to_directory again"
                )
            return
        with reading(directory) as manifest:
            if os.path.isdir(target):
                _copy_tree(directory, target, manifest)
            else:
                _copy_new(directory, target, manifest)


def _copy_new(directory: str, target: str, manifest: Manifest | None) -> None:
    parent, name = os.path.split(os.path.abspath(target))
    made = _make_parents(parent)
    draft = names.temporary(parent, name)
    try:
        posix.mkdir(draft)
        _copy_tree(directory, draft, manifest)
        posix.rename_noreplace(draft, target)
    except BaseException:
        posix.remove_tree(draft)
        for path in reversed(made):
            with contextlib.suppress(OSError):  # somebody else uses it by now
                posix.rmdir(path)
        raise


def _make_parents(path: str) -> list[str]:
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    made = []
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            posix.mkdir(directory)
            made.append(directory)
    return made


def _copy_tree(directory: str, target: str, manifest: Manifest | None) -> None:
    """Copy everything but the manifest, so that what the caller changes there is not "corrupt"."""
    listed = {entry.path: entry for entry in manifest.files} if manifest else {}
    items = [item for item in walk(directory) if is_listed(item.path) or item.path == METADATA_NAME]
    for item in reversed(items):  # walk() gives a directory after its entries
        if item.is_directory and not os.path.isdir(os.path.join(target, item.path)):
            posix.mkdir(os.path.join(target, item.path))
    for item in items:
        if item.is_directory:
            continue
        entry = listed.get(item.path)
        _copy_item(directory, target, item, entry.xxh3 if entry else "")
        if item.is_file:
            mode = entry.mode if entry else stat.S_IMODE(item.info.st_mode)
            posix.chmod(os.path.join(target, item.path), mode)


def _copy_item(directory: str, target: str, item: Item, digest: str) -> None:
    source, final = os.path.join(directory, item.path), os.path.join(target, item.path)
    occupied = os.path.lexists(final)
    draft = names.temporary(os.path.dirname(final), os.path.basename(final)) if occupied else final
    if item.is_link:
        posix.symlink(os.readlink(source), draft)
    elif not posix.reflink(source, draft):
        hasher = new_hasher() if digest else None
        posix.copy_file(source, draft, hasher)
        if hasher is not None and hasher.hexdigest() != digest:
            posix.unlink(draft)
            raise CorruptCheckpointError(
                f"{source} has other bytes than its manifest says (XXH3-128 is "
                f"{hasher.hexdigest()}, not {digest}), so it was not copied to {final}. Use an "
                "older checkpoint"
            )
    if occupied:
        posix.replace(draft, final)


# --- metadata -----------------------------------------------------------------------------------


def read_metadata(directory: str) -> dict[str, Any]:
    """Return the dict in ``.metadata.json``, or an empty one when there is no such file."""
    path = os.path.join(directory, METADATA_NAME)
    try:
        with open(path, "rb") as file:
            metadata = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        error.add_note(f"while reading {path}, which is not written by Milepost then")
        raise
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} holds {type(metadata).__name__}, not a JSON object")
    return metadata


def write_metadata(directory: str, text: str) -> None:
    """Replace ``.metadata.json``, atomically and durably."""
    with path_lock(os.path.join(directory, METADATA_NAME)):
        _replace_metadata(directory, text)


def merge_metadata(directory: str, changes: dict[str, Any]) -> None:
    """Merge keys into ``.metadata.json``; concurrent merges on one machine lose no keys."""
    with path_lock(os.path.join(directory, METADATA_NAME)):
        _replace_metadata(directory, json.dumps({**read_metadata(directory), **changes}))


def _replace_metadata(directory: str, text: str) -> None:
    # One name for all writers, who hold the lock: so a crash leaves at most one draft behind, and
    # the next writer removes it.
    draft = os.path.join(directory, names.TMP_PREFIX + "metadata")
    if os.path.lexists(draft):
        posix.unlink(draft)
    path = os.path.join(directory, METADATA_NAME)
    posix.durable_replace(path, text.encode(), temporary=draft)
