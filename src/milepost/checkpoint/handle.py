"""What users hold: :class:`Checkpoint`, a reference to a directory of files."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn, Self

from milepost.api import uri
from milepost.storage.filesystem import LocalFileSystem, local_filesystem, require_local

_MIGRATION = (
    "`Checkpoint.{name}` does not exist: a checkpoint is a directory of files. Write your state "
    "into a directory and use `Checkpoint.from_directory(path)`; read it with "
    "`checkpoint.as_directory()` or `checkpoint.to_directory(path)`."
)
_REMOVED = {
    "from_dict": "Save the dictionary into a file, with `json`, `pickle` or `torch.save`.",
    "to_dict": "Load the dictionary from the file that you saved.",
    "from_bytes": "Write the bytes into a file.",
    "to_bytes": "Read the bytes from the file that you saved.",
    "get_internal_representation": "Use `checkpoint.path` and `checkpoint.filesystem`.",
    "from_uri": "Use `Checkpoint(path)`.",
    "to_uri": "Use `checkpoint.path` and `checkpoint.filesystem`.",
    "uri": "Use `checkpoint.path` and `checkpoint.filesystem`.",
    "get_preprocessor": "Use `checkpoint.get_metadata()`.",
    "set_preprocessor": "Use `checkpoint.set_metadata(...)`.",
}


class _CheckpointType(type):
    """Explains names of older versions of the API when they are looked up on the class."""

    def __getattr__(cls, name: str) -> NoReturn:
        if name in _REMOVED:
            raise AttributeError(f"{_MIGRATION.format(name=name)} {_REMOVED[name]}")
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


class Checkpoint(metaclass=_CheckpointType):
    """A reference to a directory of files that hold the state of a training run.

    Mirrors ``ray.tune.Checkpoint`` and ``ray.train.Checkpoint``. The object is a reference: it
    owns no files and deletes none. It can be pickled; copies refer to the same directory.

    A committed checkpoint (one that ``get_checkpoint()`` or a result gives you) has a manifest;
    the sizes of its files are compared with it whenever they are handed out. A directory without
    one is used as it is.

    Args:
        path: the directory: an absolute path, ``~/...`` or a ``file://`` URI. With
            ``filesystem`` it is taken verbatim.
        filesystem: a local file system object (``pyarrow.fs.LocalFileSystem``), or None.

    Raises:
        ValueError: the path is relative and no file system is given (as in Ray, see
            :meth:`from_directory`), or names storage that this version cannot use.
        TypeError: it is no path.

    Attributes:
        path: the directory, as text.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with open(os.path.join(directory, "model.txt"), "w") as file:
        ...         _ = file.write("weights")
        ...     checkpoint = Checkpoint.from_directory(directory)
        ...     with checkpoint.as_directory() as path:
        ...         os.listdir(path)
        ['model.txt']
    """

    path: str

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"A Checkpoint needs the path of a directory, got {path!r} ({type(path).__name__})."
            )
        text = os.fspath(path)
        if filesystem is not None:
            require_local(filesystem)
        elif not text.startswith(("/", "~")) and uri.scheme(text) is None:
            raise ValueError(
                f"Checkpoint({text!r}): the path is relative, so another process would look for it "
                "elsewhere; give an absolute path, or use Checkpoint.from_directory(path)"
            )
        else:
            text = uri.resolve(text)
        self.path = text
        self._filesystem = filesystem
        self._uuid = uuid.uuid4()
        self._move = False

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str], *, move: bool = False) -> Self:
        """Return a reference to a local directory. Mirrors Ray's method of the same name.

        Args:
            path: kept verbatim; a relative one is looked up when it is used.
            move: an extension: the directory is handed over, so ``report`` may rename it into
                storage and it need not exist afterwards. By default the source stays as it was.

        Raises:
            TypeError: it is no path.

        Example:
            >>> Checkpoint.from_directory("/tmp/model")
            Checkpoint(filesystem=local, path=/tmp/model)
        """
        checkpoint = cls(path, filesystem=LocalFileSystem())
        checkpoint._filesystem = None
        checkpoint._move = move
        return checkpoint

    @property
    def filesystem(self) -> Any:
        """Where the directory is: ``pyarrow.fs.LocalFileSystem()``, or the object passed.

        Without pyarrow it is an object of our own whose ``type_name`` is ``"local"`` too.
        """
        return local_filesystem() if self._filesystem is None else self._filesystem

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the checkpoint's files into a directory of the caller's. Mirrors Ray's method.

        *Atomicity*: a directory that did not exist appears whole or not at all; in one that
        existed each file is replaced whole, and other files stay.
        *Durability*: none; it is a copy.
        *Concurrency*: several threads or processes that ask for one target copy it once; the
        others wait and return it.
        *After a crash*: a ``.milepost-tmp-`` name may be left beside or in the target.

        Args:
            path: the target; default a directory in the temporary directory that is the same for
                all copies of this object.

        Returns:
            The target's path, normalised and with ``~`` expanded.

        Raises:
            FileNotFoundError: the checkpoint does not exist; nothing was created.
            NotADirectoryError: it is a file; nothing was created.
            CorruptCheckpointError: a file's size or content differs from the manifest.
        """
        from milepost.checkpoint.read import copy_out

        if path is None:
            import tempfile

            target = os.path.join(tempfile.gettempdir(), f"checkpoint_tmp_{self._uuid.hex}")
        else:
            target = os.path.normpath(os.path.expanduser(os.fspath(path)))
        copy_out(self.path, target)
        return target

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give the checkpoint's directory for reading, without a copy. Mirrors Ray's method.

        While the ``with`` block runs, retention does not delete the checkpoint. Its files must not
        be changed: copy them with :meth:`to_directory` for that.

        Yields:
            The directory.

        Raises:
            FileNotFoundError: it does not exist (any more).
            NotADirectoryError: it is a file.
            CorruptCheckpointError: a file's size differs from the manifest.
        """
        from milepost.checkpoint.read import reading

        with reading(self.path):
            yield self.path

    def get_metadata(self) -> dict[str, Any]:
        """Return what :meth:`set_metadata` stored, or an empty dict. Mirrors Ray's method."""
        from milepost.checkpoint.read import read_metadata

        return read_metadata(self.path)

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Store a dict beside the checkpoint's files, in place of what was there.

        Mirrors Ray's method.

        *Atomicity*: readers see the old dict or the new one.
        *Durability*: when this returns.
        *Concurrency*: the last writer wins; :meth:`update_metadata` loses no one's keys.
        *After a crash*: the old dict or the new one.

        Raises:
            TypeError: JSON cannot hold a value; what was stored is intact.
        """
        from milepost.checkpoint.read import write_metadata

        write_metadata(self.path, json.dumps(metadata))

    def update_metadata(self, metadata: dict[str, Any]) -> None:
        """Merge a dict into the stored one, key by key. Mirrors Ray's method.

        Other guarantees are those of :meth:`set_metadata`.
        """
        from milepost.checkpoint.read import merge_metadata

        merge_metadata(self.path, metadata)

    def __repr__(self) -> str:
        return f"Checkpoint(filesystem=local, path={self.path})"

    def __fspath__(self) -> NoReturn:
        raise TypeError(
            "a Checkpoint cannot be used as a path. Read it with `with checkpoint.as_directory() "
            "as path:`, or copy it with `checkpoint.to_directory()`"
        )
