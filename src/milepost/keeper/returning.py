"""Putting back what was moved into staging and cannot be committed.

A directory that lies in its run's directory already is captured by moving it, and there is no other
copy of it. So it is never removed from staging, but goes back to where it was.
"""

from __future__ import annotations

import logging
import os

import msgspec

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME, checkpoint_id
from milepost.errors import CheckpointError
from milepost.keeper import intent as intents
from milepost.keeper.intent import Intent, Staged
from milepost.storage import names, posix

log = logging.getLogger("milepost.keeper")


def discard(base: str, experiment_path: str) -> None:
    """Give up a capture that is not committed: put back what was moved, remove the rest.

    *After a crash*: repeating it is safe.

    Args:
        base: its path in staging, without suffix.
        experiment_path: where its experiment is now.

    Raises:
        OSError: it cannot be put back, or not all of the rest removed; what is left stays in
            staging.
    """
    staged = intents.read(base)
    if staged is not None and staged.intent.came_from is not msgspec.UNSET:
        trial = names.trial_directory(experiment_path, staged.intent.trial_dir)
        _put_back(staged, trial, os.path.join(trial, staged.intent.came_from))
    intents.remove(base)


def _put_back(staged: Staged, trial: str, place: str) -> None:
    if not os.path.isdir(staged.tree) or _is_committed(staged.intent, trial):
        return
    # The commit may have come so far as to write one, by which readers would take it for done.
    posix.remove_tree(os.path.join(staged.tree, MANIFEST_NAME))
    parent = os.path.dirname(place)
    if not os.path.isdir(parent):
        posix.durable_makedirs(parent)
    posix.rename_noreplace(staged.tree, place)
    posix.fsync_dir(parent)
    log.warning(
        "%s was to become %s of trial %s without a copy, and is back where it was, as it could not "
        "be committed",
        place,
        staged.intent.directory,
        staged.intent.trial_id,
    )


def _is_committed(intent: Intent, trial: str) -> bool:
    try:
        found = manifests.read(os.path.join(trial, intent.directory))
    except (OSError, CheckpointError):
        return False
    return found.id == checkpoint_id(intent.attempt_id, intent.index)
