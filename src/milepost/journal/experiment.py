"""The identity of an experiment: the file that makes a directory one."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

import msgspec

from milepost.errors import ExperimentExistsError, JournalError, StorageError
from milepost.storage import names, posix

FORMAT: Final = 1
HOME: Final = ".milepost"
IDENTITY: Final = "experiment.json"
JOURNAL: Final = "journal"
OBJECTS: Final = "objects"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What ``experiment.json`` holds.

    Attributes:
        format: version of the layout of the directory.
        uuid: the experiment's own id; a copy keeps it.
        name: the name it was given; renaming the directory does not change it.
        trainable: name of the function or class, for people.
        created: seconds since the epoch.
        writer: the program that created it, with its version.
    """

    format: int
    uuid: str
    name: str
    trainable: str
    created: float
    writer: str


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment's directory and identity.

    Attributes:
        path: the directory, absolute.
        uuid: the experiment's own id.
        name: the name it was given.
        trainable: name of the function or class.
        created: seconds since the epoch.
        device: ``st_dev`` of the directory; with ``inode`` it tells a copy from its original.
        inode: ``st_ino`` of the directory.
    """

    path: str
    uuid: str
    name: str
    trainable: str
    created: float
    device: int
    inode: int

    @property
    def home(self) -> str:
        """The directory of Milepost's own files."""
        return os.path.join(self.path, HOME)


def create(path: str, *, name: str, trainable: str) -> Experiment:
    """Make ``path`` a new experiment.

    *Atomicity*: the directory is an experiment or it is not.
    *Durability*: when this returns.
    *Concurrency*: of several creators exactly one succeeds.
    *After a crash*: empty directories and perhaps a ``.milepost-tmp-`` file, which a sweep removes.

    Args:
        path: the directory; it may exist and hold other files.
        name: the experiment's name.
        trainable: name of the function or class.

    Raises:
        ExperimentExistsError: the directory is an experiment already; nothing was changed.
        StorageError: the directory cannot be created or written.
    """
    path = os.path.abspath(path)
    home = os.path.join(path, HOME)
    identity_path = os.path.join(home, IDENTITY)
    identity = Identity(
        format=FORMAT,
        uuid=os.urandom(16).hex(),
        name=name,
        trainable=trainable,
        created=time.time(),
        writer=writer_version(),
    )
    try:
        if os.path.lexists(identity_path):
            raise _exists(path)
        posix.durable_makedirs(home)
        for name_inside in (JOURNAL, OBJECTS):
            with contextlib.suppress(FileExistsError):  # from a creation that was cut off
                posix.mkdir(os.path.join(home, name_inside))
        draft = names.temporary(home, IDENTITY)
        posix.write_new(draft, msgspec.json.encode(identity) + b"\n")
        posix.fsync_file(draft)
        try:
            posix.rename_noreplace(draft, identity_path)
        except FileExistsError:
            posix.unlink(draft)
            raise _exists(path) from None
        posix.fsync_dir(home)  # all three names
    except ExperimentExistsError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot create the experiment {name!r} in {path}: {error}. Nothing was started; "
            "check that the storage path exists, has room and may be written."
        ) from error
    return _experiment(path, identity)


def open(path: str) -> Experiment:
    """Return the experiment whose directory is ``path``.

    Raises:
        StorageError: there is no experiment.
        JournalError: it was written by a newer version, or its identity is damaged.
    """
    path = os.path.abspath(path)
    identity_path = os.path.join(path, HOME, IDENTITY)
    try:
        data = _read(identity_path)
    except OSError as error:
        raise StorageError(
            f"there is no experiment in {path}: cannot read {identity_path} ({error})"
        ) from error
    try:
        version = _DECODE_VERSION(data)
        if version.format > FORMAT:
            raise JournalError(
                f"the experiment in {path} has format {version.format}, written by "
                f"{version.writer}; this is {writer_version()}, which reads formats up to "
                f"{FORMAT}. Use a newer milepost; nothing was changed."
            )
        identity = _DECODE(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"{identity_path} is damaged: {error}") from error
    return _experiment(path, identity)


def is_experiment(path: str) -> bool:
    """Whether ``path`` is the directory of an experiment."""
    return os.path.isfile(os.path.join(path, HOME, IDENTITY))


def writer_version() -> str:
    """This program and its version, as recorded in what it writes."""
    import milepost

    return f"milepost {milepost.__version__}"


class _Version(msgspec.Struct):
    format: int
    writer: str = "an unknown program"


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(Identity).decode
_DECODE_VERSION: Final = msgspec.json.Decoder(_Version).decode


def _read(path: str) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        return file.read()


def _experiment(path: str, identity: Identity) -> Experiment:
    info = os.stat(path)
    return Experiment(
        path=path,
        uuid=identity.uuid,
        name=identity.name,
        trainable=identity.trainable,
        created=identity.created,
        device=info.st_dev,
        inode=info.st_ino,
    )


def _exists(path: str) -> ExperimentExistsError:
    return ExperimentExistsError(
        f"{path} holds an experiment already, and nothing of it was changed. Choose another name "
        "(RunConfig(name=...)) or storage path for a new one. Its results are opened with "
        f"tune.ResultGrid(tune.ExperimentAnalysis({path!r})), and a new trial can start from its "
        "checkpoints."
    )
