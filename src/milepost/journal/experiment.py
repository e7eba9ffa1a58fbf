"""The identity of an experiment: the file that makes a directory one.

A directory whose file is lost and whose journal is not is an experiment all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Final

import msgspec

from milepost.errors import ExperimentExistsError, JournalError, StorageError
from milepost.storage import names, posix

log = logging.getLogger("milepost.journal")

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
    identity = Identity(
        format=FORMAT,
        uuid=os.urandom(16).hex(),
        name=name,
        trainable=trainable,
        created=time.time(),
        writer=writer_version(),
    )
    try:
        if is_experiment(path):
            raise _exists(path)
        posix.durable_makedirs(home)
        for name_inside in (JOURNAL, OBJECTS):
            with contextlib.suppress(FileExistsError):  # from a creation that was cut off
                posix.mkdir(os.path.join(home, name_inside))
        try:
            _publish(home, identity)  # all three names
        except FileExistsError:
            raise _exists(path) from None
    except ExperimentExistsError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot create the experiment {name!r} in {path}: {error}. Nothing was started; "
            "check that the storage path exists, has room and may be written."
        ) from error
    return _experiment(path, identity)


def open(path: str) -> Experiment:
    """Return the experiment whose directory is ``path``; nothing is changed.

    An identity that is missing or damaged is told from the journal, with a warning.

    Raises:
        StorageError: there is no experiment.
        JournalError: it was written by a newer version, or nothing tells its identity.
    """
    path = os.path.abspath(path)
    try:
        return _experiment(path, _stored(path))
    except OSError as error:
        if not (isinstance(error, FileNotFoundError) and is_experiment(path)):
            raise StorageError(
                f"there is no experiment in {path}: cannot read its {IDENTITY} ({error})"
            ) from error
        problem = "missing"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"damaged ({error})"
    from milepost.journal import lost_identity

    identity_path = os.path.join(path, HOME, IDENTITY)
    identity = lost_identity.identity(path) if lost_identity.has_journal(path) else None
    if identity is None:
        raise JournalError(
            f"{identity_path} is {problem}, and no file of the journal can be read that has the "
            "experiment's id. Nothing was changed; checkpoints and result files are as they were, "
            "and a checkpoint can be used by its path."
        )
    log.warning(
        "%s is %s. The journal says that this is experiment %s, so it is used as that; the next "
        "run that goes on with it writes the file again.",
        identity_path,
        problem,
        identity.uuid,
    )
    return _experiment(path, identity)


def secure(experiment: Experiment) -> None:
    """Write the identity of an experiment again if its file is missing or damaged.

    The caller holds the experiment. A damaged file is kept under another name.

    *Durability*: when this returns.

    Raises:
        OSError: it cannot be written.
        JournalError: a newer version has written it meanwhile.
    """
    try:
        _stored(experiment.path)
        return
    except FileNotFoundError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError):
        damaged = os.path.join(experiment.home, IDENTITY)
        posix.rename_noreplace(damaged, names.quarantine(damaged))
    identity = Identity(
        format=FORMAT,
        uuid=experiment.uuid,
        name=experiment.name,
        trainable=experiment.trainable,
        created=experiment.created,
        writer=writer_version(),
    )
    _publish(experiment.home, identity)


def is_experiment(path: str) -> bool:
    """Whether ``path`` is the directory of an experiment, also one whose identity is lost."""
    if os.path.isfile(os.path.join(path, HOME, IDENTITY)):
        return True
    from milepost.journal import lost_identity

    return lost_identity.has_journal(path)


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


def _stored(path: str) -> Identity:
    """The identity in its file.

    Raises:
        OSError: it cannot be read.
        JournalError: a newer version wrote it.
        msgspec.DecodeError, UnicodeDecodeError: it is damaged.
    """
    identity_path = os.path.join(path, HOME, IDENTITY)
    with os.fdopen(os.open(identity_path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        data = file.read()
    version = _DECODE_VERSION(data)
    if version.format > FORMAT:
        raise JournalError(
            f"the experiment in {path} has format {version.format}, written by "
            f"{version.writer}; this is {writer_version()}, which reads formats up to "
            f"{FORMAT}. Use a newer milepost; nothing was changed."
        )
    return _DECODE(data)


def _publish(home: str, identity: Identity) -> None:
    """Give an experiment its identity, if it has none.

    Raises:
        FileExistsError: it has one.
        OSError: it cannot be written.
    """
    draft = names.temporary(home, IDENTITY)
    posix.write_new(draft, msgspec.json.encode(identity) + b"\n")
    posix.fsync_file(draft)
    try:
        posix.rename_noreplace(draft, os.path.join(home, IDENTITY))
    except FileExistsError:
        posix.unlink(draft)
        raise
    posix.fsync_dir(home)


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
