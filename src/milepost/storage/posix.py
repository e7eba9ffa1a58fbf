"""Every change that Milepost makes to a file system.

The driver and the keeper mutate files through these functions only, and call them as attributes
of this module (``posix.rename(a, b)``), never imported by name. That makes the sequence of
changes enumerable: the fault interposer of :mod:`milepost.testing` replaces the functions named
in :data:`OPERATIONS` and fails, tears or ends the process at each of them in turn.

Functions in :data:`OPERATIONS` are one step each. The others (:func:`durable_replace`,
:func:`durable_makedirs`, :func:`remove_tree`) are sequences of such steps.

Nothing here is durable unless its name or its docstring says so: bytes of a file need
:func:`fsync`, names in a directory need :func:`fsync_dir`, or both need :func:`syncfs`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from milepost.storage import names

if TYPE_CHECKING:
    import ctypes

OPERATIONS = (
    "write_new",
    "create_new",
    "append",
    "pwrite",
    "truncate",
    "fsync",
    "fsync_file",
    "fsync_dir",
    "syncfs",
    "rename",
    "rename_noreplace",
    "replace",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
    "reflink",
    "copy_file",
)
"""The single steps, by name. What flushes is in :data:`FLUSHES`."""

FLUSHES = ("fsync", "fsync_file", "fsync_dir", "syncfs")

BLOCK_BYTES = 256 << 10  # fits into a second-level cache together with what hashing needs
_COPY_RANGE_BYTES = 1 << 30
_WORTH_A_HOLE_BYTES = 1 << 20
_FICLONE = 0x40049409
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_SYNC_FILE_RANGE_WRITE = 2
_CANNOT_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ETXTBSY}
)
_CANNOT_COPY_RANGE = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}
)


class Hasher(Protocol):
    """What :func:`copy_file` feeds with each block it copies (``hashlib`` and ``xxhash`` fit)."""

    def update(self, data: Any, /) -> object:
        """Take the next bytes of the file."""


# --- bytes of files -----------------------------------------------------------------------------


def write_new(path: str, data: bytes, mode: int = 0o666) -> None:
    """Create ``path`` and write all of ``data``. Not durable.

    Args:
        path: must not exist.
        data: the whole content.
        mode: permission bits before the umask.

    Raises:
        FileExistsError: ``path`` exists; it was not touched.
        OSError: the file may exist with a prefix of ``data``.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _write_all(fd, data)
    finally:
        os.close(fd)


def create_new(path: str, mode: int = 0o666) -> int:
    """Create an empty file and return a descriptor for reading and appending. Not durable.

    Raises:
        FileExistsError: ``path`` exists; it was not touched.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags, mode)


def append(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at the descriptor's position (its end, if opened to append)."""
    _write_all(fd, data)


def pwrite(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``, leaving the descriptor's position alone."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def truncate(fd: int, length: int) -> None:
    """Cut the file to ``length`` bytes."""
    os.ftruncate(fd, length)


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:  # a signal, or a file system near its limit, may write a part only
        view = view[os.write(fd, view) :]


# --- durability ---------------------------------------------------------------------------------


def fsync(fd: int) -> None:
    """Make the bytes of an open file durable.

    A failure is final: the kernel has marked the pages clean, so a second call would succeed
    without having written them. Drop the file instead.
    """
    os.fsync(fd)


def fsync_file(path: str) -> None:
    """Make the bytes of the regular file at ``path`` durable (its name is not)."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_dir(path: str) -> None:
    """Make the names in a directory durable (what they name is not)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def start_writeback(path: str) -> None:
    """Let the kernel begin to write a file's bytes, without waiting and without any promise.

    Done for all files before the first is flushed, it lets one journal commit serve many flushes.
    """
    libc = _libc()
    if not hasattr(libc, "sync_file_range"):
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)
    finally:
        os.close(fd)


def syncfs(path: str) -> None:
    """Make everything that was written to the file system of ``path`` durable.

    It writes what other processes wrote too, so it pays off for many small files at once.

    Raises:
        OSError: some write-back of this file system failed, not necessarily of our files.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc().syncfs(fd) != 0:
            raise _libc_error(path)
    finally:
        os.close(fd)


# --- names --------------------------------------------------------------------------------------


def rename(src: str, dst: str) -> None:
    """Rename; an existing file or empty directory at ``dst`` is replaced. Atomic, not durable."""
    os.rename(src, dst)


def replace(src: str, dst: str) -> None:
    """Rename a file over ``dst``, whatever file is there. Atomic, not durable."""
    os.replace(src, dst)


def rename_noreplace(src: str, dst: str) -> None:
    """Rename if nothing is at ``dst``. Atomic, not durable.

    Where the file system cannot do it in one call (NFS), a file is linked and its old name
    removed; a directory is renamed after a look, which cannot replace one that has entries.

    Raises:
        FileExistsError: something is at ``dst``; nothing was changed.
    """
    libc = _libc()
    if hasattr(libc, "renameat2"):
        source, target = os.fsencode(src), os.fsencode(dst)
        if libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) == 0:
            return
        error = _libc_error(src, dst)
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise error
    _rename_noreplace_in_steps(src, dst)


def _rename_noreplace_in_steps(src: str, dst: str) -> None:
    if not stat.S_ISDIR(os.lstat(src).st_mode):
        os.link(src, dst, follow_symlinks=False)
        os.unlink(src)
        return
    if os.path.lexists(dst):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), src, None, dst)
    try:
        os.rename(src, dst)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(
                errno.EEXIST, os.strerror(errno.EEXIST), src, None, dst
            ) from error
        raise


def link(src: str, dst: str) -> None:
    """Give the file at ``src`` the second name ``dst``. Not durable.

    Raises:
        FileExistsError: something is at ``dst``.
    """
    os.link(src, dst, follow_symlinks=False)


def symlink(target: str, path: str) -> None:
    """Create a symbolic link at ``path`` that reads ``target``. Not durable."""
    os.symlink(target, path)


def unlink(path: str) -> None:
    """Remove a name of a file. Not durable."""
    os.unlink(path)


def mkdir(path: str, mode: int = 0o777) -> None:
    """Create one directory. Not durable."""
    os.mkdir(path, mode)


def rmdir(path: str) -> None:
    """Remove one empty directory. Not durable."""
    os.rmdir(path)


def chmod(path: str, mode: int) -> None:
    """Set the permission bits of a file or directory."""
    os.chmod(path, mode)


# --- copies -------------------------------------------------------------------------------------


def reflink(src: str, dst: str, mode: int | None = None) -> bool:
    """Create ``dst`` as a copy of ``src`` that shares its blocks until either is written.

    Args:
        src: a regular file.
        dst: must not exist.
        mode: permission bits before the umask; default as in :func:`copy_file`.

    Returns:
        False, with nothing at ``dst``, where the file system cannot do it.

    Raises:
        FileExistsError: something is at ``dst``.
    """
    import fcntl

    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(dst, flags, _copy_mode(source) if mode is None else mode)
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            os.unlink(dst)
            if error.errno in _CANNOT_CLONE:
                return False
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
    return True


def copy_file(src: str, dst: str, hasher: Hasher | None = None, mode: int | None = None) -> int:
    """Copy the bytes of a regular file to a new one. Not durable. Large holes stay holes.

    Args:
        src: a regular file.
        dst: must not exist.
        hasher: is fed every block on the way, so that the file is read once only.
        mode: permission bits before the umask; default 0o777 for an executable, else 0o666.

    Returns:
        The number of bytes copied.

    Raises:
        FileExistsError: something is at ``dst``; it was not touched.
        OSError: ``dst`` may exist with a prefix of the bytes.
    """
    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(dst, flags, _copy_mode(source) if mode is None else mode)
        try:
            if _has_holes(source):
                return _copy_sparse(source, target, hasher)
            if hasher is None:
                return _copy_range(source, target)
            return _copy_blocks(source, target, hasher)
        finally:
            os.close(target)
    finally:
        os.close(source)


def block_buffer(fd: int) -> memoryview:
    """Return a buffer to read an open file with, no larger than the file needs."""
    return memoryview(bytearray(min(BLOCK_BYTES, os.fstat(fd).st_size + 1)))


def _copy_mode(fd: int) -> int:
    return 0o777 if os.fstat(fd).st_mode & stat.S_IXUSR else 0o666


def _copy_range(source: int, target: int) -> int:
    total = 0
    while True:
        try:
            copied = os.copy_file_range(source, target, _COPY_RANGE_BYTES)
        except OSError as error:
            if total or error.errno not in _CANNOT_COPY_RANGE:
                raise
            return _copy_blocks(source, target, None)
        if copied == 0:
            # Files of /proc and some FUSE file systems answer 0 although they have bytes.
            return total if total else _copy_blocks(source, target, None)
        total += copied


def _copy_blocks(source: int, target: int, hasher: Hasher | None) -> int:
    buffer = block_buffer(source)
    total = 0
    while count := os.readv(source, [buffer]):
        block = buffer[:count]
        if hasher is not None:
            hasher.update(block)
        _write_all(target, block)
        total += count
    return total


def _has_holes(fd: int) -> bool:
    info = os.fstat(fd)
    return info.st_size - info.st_blocks * 512 >= _WORTH_A_HOLE_BYTES


def _copy_sparse(source: int, target: int, hasher: Hasher | None) -> int:
    """Copy what is between the holes; the hasher sees zeros in their place."""
    size = os.fstat(source).st_size
    buffer = memoryview(bytearray(BLOCK_BYTES))
    zeros = memoryview(bytes(BLOCK_BYTES))
    at = 0
    while at < size:
        data = _next(source, at, os.SEEK_DATA, size)
        while hasher is not None and at < data:
            hole = zeros[: data - at]
            hasher.update(hole)
            at += len(hole)
        at, end = data, _next(source, data, os.SEEK_HOLE, size)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            count = os.preadv(source, [buffer[: end - at]], at)
            if count == 0:  # it was cut meanwhile; the caller compares sizes
                size = end = at
                break
            if hasher is not None:
                hasher.update(buffer[:count])
            _write_all(target, buffer[:count])
            at += count
    os.ftruncate(target, size)
    return size


def _next(fd: int, start: int, what: int, size: int) -> int:
    """Where the next data or hole begins, at most ``size``."""
    if start >= size:
        return size
    try:
        return min(os.lseek(fd, start, what), size)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole follows
            raise
        return size


# --- sequences of the steps above ---------------------------------------------------------------


def durable_replace(
    path: str, data: bytes, mode: int = 0o666, temporary: str | None = None
) -> None:
    """Give ``path`` the content ``data``: after this returns, a power loss keeps it.

    *Atomicity*: readers see the old content or the new one, whole.
    *Durability*: bytes and name.
    *Concurrency*: the last of several writers wins.
    *After a crash*: a ``.milepost-tmp-`` file may be left beside ``path``.

    Args:
        path: the file to create or replace.
        data: its whole new content.
        mode: permission bits before the umask.
        temporary: where to write first, in the same directory; by default a name of its own.

    Raises:
        OSError: ``path`` has its old content, or, if only the last flush failed, the new one.
    """
    directory, name = os.path.split(path)
    draft = temporary or names.temporary(directory, name)
    try:
        write_new(draft, data, mode)
        fsync_file(draft)
        replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):  # the first failure is the one to report
            unlink(draft)
        raise
    fsync_dir(directory or ".")


def durable_makedirs(path: str) -> None:
    """Create ``path`` and its missing parents so that a power loss keeps them.

    The deepest one that exists is made durable too: a process that crashed may have created it
    just before.
    """
    missing = []
    step = os.path.abspath(path)
    while not os.path.isdir(step):
        missing.append(step)
        step = os.path.dirname(step)
    with contextlib.suppress(PermissionError):  # then none of our processes created it
        fsync_dir(os.path.dirname(step))
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            mkdir(directory)
        fsync_dir(os.path.dirname(directory))


def make_below(root: str, path: str) -> None:
    """Create ``path`` and its missing parents below ``root``, but not ``root`` itself.

    So nothing comes back to life at a place from which ``root`` was moved away or deleted.

    Raises:
        FileNotFoundError: ``root`` is not there.
        OSError: a directory could not be created.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent in (root, path):
            raise
        make_below(root, parent)
        make_below(root, path)


def remove_tree(path: str) -> None:
    """Remove a directory tree or a file. What is gone already is no error; links are not followed.

    Raises:
        OSError: something could not be removed; the rest may be gone.
    """
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        _unlink_if_there(path)
        return
    if info.st_mode & 0o700 != 0o700:
        chmod(path, 0o700)  # a copied tree may carry directories that even their owner cannot edit
    for entry in list(_scan(path)):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            _unlink_if_there(entry.path)
    with contextlib.suppress(FileNotFoundError):
        rmdir(path)


def _scan(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from entries


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        unlink(path)


# --- the two calls that Python does not have ----------------------------------------------------

_LIBC: ctypes.CDLL | None = None


def _libc() -> ctypes.CDLL:
    global _LIBC
    if _LIBC is None:
        import ctypes

        _LIBC = ctypes.CDLL(None, use_errno=True)
        if hasattr(_LIBC, "sync_file_range"):
            offset = ctypes.c_int64
            _LIBC.sync_file_range.argtypes = [ctypes.c_int, offset, offset, ctypes.c_uint]
    return _LIBC


def _libc_error(path: str, other: str | None = None) -> OSError:
    import ctypes

    code = ctypes.get_errno()
    if other is None:
        return OSError(code, os.strerror(code), path)
    return OSError(code, os.strerror(code), path, None, other)
