"""What ``Checkpoint.filesystem`` and ``Result.filesystem`` are.

Scripts written for Ray expect a ``pyarrow.fs`` file system there. It is given to them when
pyarrow is installed, and only imported when they look; without pyarrow they get a light object
that answers ``type_name``.
"""

from __future__ import annotations

from typing import Any


class LocalFileSystem:
    """The files of this machine, for installations without pyarrow.

    Mirrors what scripts read of ``pyarrow.fs.LocalFileSystem``: ``type_name`` and equality.

    Example:
        >>> LocalFileSystem().type_name
        'local'
    """

    type_name = "local"

    def __eq__(self, other: object) -> bool:
        return is_local(other)

    def __hash__(self) -> int:
        return hash(self.type_name)

    def __repr__(self) -> str:
        return "LocalFileSystem()"


def local_filesystem() -> Any:
    """Return ``pyarrow.fs.LocalFileSystem()`` where pyarrow is installed, else our own."""
    try:
        from pyarrow import fs
    except ImportError:
        return LocalFileSystem()
    return fs.LocalFileSystem()


def is_local(filesystem: object) -> bool:
    """Tell whether an object stands for the local file system (ours, pyarrow's or fsspec's)."""
    if getattr(filesystem, "type_name", None) == "local":
        return True
    protocol = getattr(filesystem, "protocol", ())
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def require_local(filesystem: object) -> None:
    """Check that a file system passed by a user is one that this version can use.

    Raises:
        ValueError: it is not the local one.
    """
    if not is_local(filesystem):
        kind = getattr(filesystem, "type_name", None) or type(filesystem).__name__
        raise ValueError(
            f"the file system {filesystem!r} (type {kind!r}) is not supported by this version of "
            "Milepost, which stores on local and mounted file systems only; pass a path on one of "
            "those, or leave the file system out"
        )
