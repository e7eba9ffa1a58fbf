"""Where an experiment goes: checks before anything starts, and names that are not taken."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from milepost.api import uri
from milepost.errors import ExperimentExistsError, StorageError
from milepost.storage import names, posix

if TYPE_CHECKING:
    from milepost.journal.experiment import Experiment

_PROBE = b"a storage path must take at least a block of data\n".ljust(4096, b".")


def check_storage(storage_path: str) -> str:
    """Make sure that results can be written, before any trial starts.

    The directory is created when it is missing, and a small file is written, flushed and removed.

    Args:
        storage_path: a path or a ``file://`` URI.

    Returns:
        The absolute path.

    Raises:
        StorageError: it cannot be created or written; the message says what is in the way.
        ValueError: it is a URI of storage that this version cannot use.
    """
    path = uri.resolve(storage_path)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise _unusable(path, "it cannot be created", error) from error
    _sweep_probes(path)
    probe = names.temporary(path, f"probe-{os.uname().nodename}")
    try:
        try:
            posix.write_new(probe, _PROBE)
            posix.fsync_file(probe)
        finally:
            if os.path.lexists(probe):
                posix.unlink(probe)
    except OSError as error:
        raise _unusable(path, "nothing can be written there", error) from error
    return path


def _sweep_probes(path: str) -> None:
    """Remove what runs on this machine have left that were killed during this check."""
    prefix, ours = f"{names.TMP_PREFIX}probe-{os.uname().nodename}-", f".{os.getpid()}"
    # Whatever is in the way here, writing a probe tells it better.
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            # One of ours may be another thread's.
            if name.startswith(prefix) and not name.endswith(ours) and names.is_abandoned(name):
                posix.unlink(os.path.join(path, name))


def check_name_is_free(storage_path: str, name: str) -> None:
    """Make sure that no other experiment has this name, or has left trials in its directory.

    One whose run ended before it had recorded anything does not count.

    Raises:
        ExperimentExistsError: one has; nothing of it was changed.
        StorageError: something that is no directory is in the way.
    """
    from milepost.journal import experiment as experiments
    from milepost.tune.recorded import nothing_recorded

    path = os.path.join(storage_path, name)
    left = [] if experiments.is_experiment(path) else _trials_in(path)
    if left:
        shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        raise ExperimentExistsError(
            errno.EEXIST,
            f"an experiment cannot have the name {name!r}: {path} holds trials of an earlier one "
            f"({len(left)}: {shown}), whose .milepost is gone or which another program ran. "
            "Nothing of it was changed. Choose another RunConfig(name=...), or move or delete "
            "these directories if nobody needs them; a new trial can start from their checkpoints",
            path,
        )
    if experiments.is_experiment(path) and not nothing_recorded(path):
        raise ExperimentExistsError(
            errno.EEXIST,
            f"an experiment named {name!r} exists already in {storage_path}, and nothing of it was "
            f"changed. To go on with it: Tuner.restore({path!r}, trainable), or tune.run(..., "
            "resume=True). For a new one choose another RunConfig(name=...), or leave the name out "
            "and it gets one with the time in it. To look at its results: "
            "ResultGrid(ExperimentAnalysis(<its path>))",
            path,
        )
    if os.path.lexists(path) and not os.path.isdir(path):
        raise StorageError(
            errno.ENOTDIR,
            f"the experiment {name!r} cannot have its directory: a file of that name is in the "
            "way. It was not changed; choose another RunConfig(name=...)",
            path,
        )


def _trials_in(path: str) -> list[str]:
    """The names of directories that a run has left; two runs must not get mixed up there."""
    from milepost.journal import evidence

    if not os.path.isdir(path):
        return []
    found = (evidence.TrialDirectory(path, name) for name in evidence.directories(path))
    return [directory.name for directory in found if directory.has_reported]


def create_experiment(
    storage_path: str, name: str, *, trainable: str, automatic: bool
) -> Experiment:
    """Create the directory of a new experiment, or take one in which nothing was recorded.

    Of two runs that take the same one, the journal's lease decides.

    Args:
        storage_path: an absolute path that :func:`check_storage` has seen.
        name: the experiment's name.
        trainable: the trainable's name.
        automatic: whether we chose the name, so that a number may be added when it is taken, as
            when two runs start within one second.

    Raises:
        ExperimentExistsError: a name given by the user is taken.
        StorageError: the directory cannot be created.
    """
    from milepost.journal import experiment as experiments

    number = 1
    while True:
        chosen = name if number == 1 else f"{name}_{number}"
        path = os.path.join(storage_path, chosen)
        number += 1
        if automatic and os.path.lexists(path):
            continue
        if not automatic:
            check_name_is_free(storage_path, chosen)
        try:
            return experiments.create(path, name=chosen, trainable=trainable)
        except ExperimentExistsError:  # somebody was faster, or nothing was recorded in it
            if automatic:
                continue
            check_name_is_free(storage_path, chosen)
            return experiments.open(path)


def discard_if_empty(experiment: Experiment) -> bool:
    """Take back an experiment whose run failed before its first trial, so that its name is free.

    Files that are not ours stay, and so does an experiment that has a trial.

    Returns:
        Whether it is no experiment any more.
    """
    from milepost.journal import replay

    if replay.image(experiment.path).trials:
        return False
    posix.remove_tree(experiment.home)
    with contextlib.suppress(OSError):  # it holds files of others
        os.rmdir(experiment.path)
    return True


def _unusable(path: str, what: str, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    obstacle = _first_existing(path)
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and not os.path.isdir(obstacle):
        reason = f"{obstacle} is a file"
    elif error.errno == errno.EROFS:
        reason = f"the file system of {obstacle} is mounted read-only"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = f"user {os.geteuid()} may not write to {obstacle}"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"there is no space left for {obstacle}"
    return StorageError(
        error.errno,
        f"the storage path cannot be used: {what}: {reason}. No trial was started; set "
        "RunConfig(storage_path=...) to a directory that can be written",
        path,
    )


def _first_existing(path: str) -> str:
    """The path itself or its closest parent that exists, whatever it is."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path
