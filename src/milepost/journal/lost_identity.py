"""The identity of an experiment whose ``experiment.json`` is lost, as its journal tells it."""

from __future__ import annotations

import os

from milepost.errors import JournalCorruptError
from milepost.journal import chain, epochs, replay, snapshot
from milepost.journal.experiment import FORMAT, Identity, writer_version
from milepost.journal.records import Opened
from milepost.storage import codec


def has_journal(experiment_path: str) -> bool:
    """Whether a driver has ever begun to write down what happens in a directory."""
    try:
        found = epochs.segments(experiment_path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    directory = epochs.journal_directory(experiment_path)
    # A driver that died at once, or one that creates the journal right now, has told nothing yet.
    return any(os.path.getsize(os.path.join(directory, segment.name)) for segment in found)


def identity(experiment_path: str) -> Identity | None:
    """Return what the journal tells: the id, and when it was begun; None if no file says so.

    The name is that of the directory. Nothing is changed.

    Raises:
        JournalError: a newer version wrote the journal.
    """
    told = _told(experiment_path)
    if told is None:
        return None
    uuid, created = told
    return Identity(
        format=FORMAT,
        uuid=uuid,
        name=os.path.basename(experiment_path),
        trainable=_trainable(experiment_path),
        created=created,
        writer=writer_version(),
    )


def _told(experiment_path: str) -> tuple[str, float] | None:
    """Id and time of the oldest readable file of the journal, or else of a snapshot."""
    for segment in epochs.segments(experiment_path):
        head = chain.head(experiment_path, segment)
        if head is not None:
            return head.uuid, head.at if isinstance(head, Opened) else 0.0
    for covered in epochs.snapshots(experiment_path):
        found = snapshot.read(experiment_path, covered)
        if found is not None:
            return found.uuid, found.image.opened
    return None


def _trainable(experiment_path: str) -> str:
    """What the setup says that runs; empty if damage has taken that."""
    try:
        setup = replay.image(experiment_path).setup
    except JournalCorruptError:
        return ""
    said = None if setup is None else codec.preview(setup)
    name = said.get("trainable") if isinstance(said, dict) else None
    return name if isinstance(name, str) else ""
