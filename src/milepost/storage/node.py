"""The directory of this user on this machine: scratch space, sockets and locks."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

from milepost.errors import StorageError

NODE_ROOT_VARIABLE = "MILEPOST_NODE_ROOT"


def node_root() -> str:
    """Return the user's node root, created with mode 0700 if need be.

    It is ``$MILEPOST_NODE_ROOT``, or ``milepost-<uid>`` in the temporary directory.

    Raises:
        StorageError: it cannot be created, is no directory, or belongs to or is writable by
            somebody else, who could then replace what we keep there.
    """
    configured = os.environ.get(NODE_ROOT_VARIABLE)
    path = os.path.abspath(
        configured or os.path.join(tempfile.gettempdir(), f"milepost-{os.getuid()}")
    )
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        info = os.lstat(path)
    except OSError as error:
        raise StorageError(
            error.errno, f"cannot create the node root {path}: {error.strerror}; {_ADVICE}"
        ) from error
    if not stat.S_ISDIR(info.st_mode):
        raise StorageError(f"the node root {path} is not a directory; {_ADVICE}")
    if info.st_uid != os.getuid():
        raise StorageError(
            f"the node root {path} belongs to user {info.st_uid}, not to user {os.getuid()} who "
            f"runs this; {_ADVICE}"
        )
    if info.st_mode & 0o022:
        raise StorageError(
            f"the node root {path} can be written by others (mode {stat.S_IMODE(info.st_mode):o}); "
            f"run `chmod 700 {path}`, or {_ADVICE}"
        )
    return path


_ADVICE = f"set {NODE_ROOT_VARIABLE} to a directory of your own on a local disk"
