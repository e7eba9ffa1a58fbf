"""Where a trial's weights come from: its checkpoints and configs, through other trials."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from milepost.storage import names

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.journal.image import RunImage, TrialImage
    from milepost.journal.records import Exploited


@dataclass(frozen=True)
class Stretch:
    """A stretch of training with one config, by one trial.

    A trial that ended before it had trained from another one's checkpoint begins with that one's.

    Attributes:
        trial_id: the trial.
        config: what it trained with; what JSON cannot hold is shown by its repr.
        start: ``training_iteration`` that it began after; 0 for the very beginning.
        end: ``training_iteration`` of the checkpoint at its end, or of the last result.
        checkpoint: at its end; None when there was none, or it is not there any more.
        checkpoint_id: names that checkpoint for ever; empty when there was none.
    """

    trial_id: str
    config: dict[str, Any]
    start: int
    end: int
    checkpoint: Checkpoint | None
    checkpoint_id: str = ""


def lineage_of(trial_path: str) -> list[Stretch]:
    """Return how a trial came to what it is, the newest stretch first; see ``Result.lineage()``.

    Raises:
        RuntimeError: the journal of the experiment does not know the trial.
        JournalError: a newer version wrote the journal.
    """
    from milepost.errors import StorageError
    from milepost.journal import rebuild

    root, name = os.path.split(os.path.abspath(trial_path))
    try:
        image = rebuild.image(root)
    except StorageError as error:
        raise RuntimeError(f"The lineage is in the experiment's journal: {error}.") from error
    trial = next((one for one in image.trials.values() if one.directory == name), None)
    if trial is None:
        raise RuntimeError(f"The journal of {root} knows no trial with the directory {name!r}.")
    return _followed(root, image, trial)


def _followed(root: str, image: RunImage, trial: TrialImage) -> list[Stretch]:
    fork = trial.exploits[-1] if trial.exploits else None
    own = [i for i in trial.committed if fork is None or i >= fork.first_index]
    newest = max((i for i in own if i not in trial.deleting), default=None)
    checkpoint, name = _at(root, trial, newest)
    stretches = []
    if fork is None or newest is not None or trial.iteration > fork.iteration:
        stretches.append(_stretch(trial, fork, trial.iteration, checkpoint, name))
    while fork is not None:
        donor = image.trials.get(fork.donor)
        if donor is None:  # the journal was damaged
            break
        checkpoint, name = _at(root, donor, fork.index, fork.id)
        index, end = fork.index, fork.iteration
        before = [one for one in donor.exploits if one.number < fork.number]
        fork = next((one for one in reversed(before) if one.first_index <= index), None)
        stretches.append(_stretch(donor, fork, end, checkpoint, name))
    return stretches


def _stretch(
    trial: TrialImage, fork: Exploited | None, end: int, checkpoint: Checkpoint | None, name: str
) -> Stretch:
    from milepost.storage import codec

    raw = trial.first_config if fork is None else fork.config
    start = 0 if fork is None else fork.iteration
    return Stretch(trial.trial, codec.preview(raw), start, end, checkpoint, name)


def _at(
    root: str, trial: TrialImage, index: int | None, expected: str = ""
) -> tuple[Checkpoint | None, str]:
    """A checkpoint, if it is still there and the same, and its id."""
    from milepost.checkpoint import manifest as manifests
    from milepost.checkpoint.handle import Checkpoint
    from milepost.errors import CheckpointError

    if index is None:
        return None, expected
    directory = names.trial_directory(root, trial.directory)
    path = os.path.join(directory, trial.checkpoint_directory(index))
    try:
        found = manifests.read(path).id
    except (OSError, CheckpointError):
        return None, expected
    if expected and found != expected:
        return None, expected
    return Checkpoint.from_directory(path), found
