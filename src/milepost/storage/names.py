"""Names that Milepost uses on disk and that no reader ever lists.

All of them begin with ``.milepost``. A crash may leave names with the first two prefixes behind;
a sweep removes them. They end in the id of the process that works with them, so that a sweep
leaves alone what another process of this machine is just writing. A quarantined checkpoint is
kept until a person deletes it.
"""

from __future__ import annotations

import os

from milepost.process import is_running

PREFIX = ".milepost"
TMP_PREFIX = ".milepost-tmp-"
TRASH_PREFIX = ".milepost-trash-"
QUARANTINE_PREFIX = ".milepost-quarantine-"

#: Name of a trial's directory that is the experiment's own: a training run has only one trial.
ITSELF = "."


def trial_directory(experiment_path: str, name: str) -> str:
    """Return the path of a trial's directory in an experiment's."""
    return experiment_path if name == ITSELF else os.path.join(experiment_path, name)


def temporary(directory: str, label: str) -> str:
    """Return a path in ``directory`` that nothing else uses and that a sweep may remove."""
    return os.path.join(directory, f"{TMP_PREFIX}{label}-{os.urandom(6).hex()}.{os.getpid()}")


def trash(path: str) -> str:
    """Return the path to which ``path`` is renamed before its bytes are deleted."""
    return f"{_hidden(path, TRASH_PREFIX)}.{os.getpid()}"


def quarantine(path: str) -> str:
    """Return the path to which a damaged ``path`` is renamed so that nobody uses it again."""
    return _hidden(path, QUARANTINE_PREFIX)


def is_leftover(name: str) -> bool:
    """Tell whether a name is none that anybody should read: a draft, or on its way out."""
    return name.startswith((TMP_PREFIX, TRASH_PREFIX))


def is_abandoned(name: str) -> bool:
    """Tell whether a name belongs to something that a crash left, so that a sweep may remove it.

    What this very process left, by an error, counts; what another live process has does not. The
    id of a dead process may have been given to another one: then a later sweep removes it.
    """
    if not is_leftover(name):
        return False
    owner = name.rpartition(".")[2]
    if not owner.isdecimal() or int(owner) == os.getpid():
        return True
    return not is_running(int(owner))


def _hidden(path: str, prefix: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(parent, f"{prefix}{name}-{os.urandom(4).hex()}")
