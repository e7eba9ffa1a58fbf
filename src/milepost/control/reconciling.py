"""Compares what the journal says of a trial's checkpoints with what its directory holds.

Manifests decide: a checkpoint with a manifest exists, one without does not, whatever the journal
says. What was captured and is still in staging is not looked at here; the keeper commits it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.manifest import Manifest
from milepost.checkpoint.tree import new_hasher
from milepost.control import events
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.journal.image import TrialImage


class Holdings(NamedTuple):
    """What a trial's directory holds.

    Attributes:
        manifests: of the committed checkpoints, by number.
        names: of all that is there.
    """

    manifests: dict[int, Manifest]
    names: frozenset[str]

    @property
    def highest(self) -> int:
        """The highest number in use, also by name alone; -1 if there is none."""
        others = self.names - {each.directory for each in self.manifests.values()}
        numbers = (verify.number_of(name) for name in others)
        return max((*self.manifests, *(each for each in numbers if each is not None)), default=-1)


class Reconciled(NamedTuple):
    """A trial's checkpoints after the comparison.

    Attributes:
        checkpoints: on record and there, oldest first.
        inflight: captured, and neither there nor recorded as lost.
        adopted: numbers of those that are there and not on record as committed, oldest first.
        missing: on record and not there: number and why.
        attempt: number of the last attempt that anything is known of.
    """

    checkpoints: tuple[Checkpoint, ...]
    inflight: dict[int, Capture]
    adopted: tuple[int, ...]
    missing: tuple[tuple[int, str], ...]
    attempt: int


def look(trial_dir: str, trial_id: str, run_id: str) -> Holdings:
    """See what is there.

    A manifest of another trial or experiment is none of ours: somebody has copied it there.
    """
    try:
        names = os.listdir(trial_dir)
    except (FileNotFoundError, NotADirectoryError):
        return Holdings({}, frozenset())
    ours = {
        index: manifest
        for index, manifest in verify.committed(trial_dir)
        if manifest.trial == trial_id and manifest.run == run_id
    }
    return Holdings(ours, frozenset(names))


def reconcile(
    trial: TrialImage,
    recorded: list[Checkpoint],
    inflight: dict[int, Capture],
    there: Holdings,
) -> Reconciled:
    """Compare; pure.

    Args:
        trial: what the journal says.
        recorded: the checkpoints that it knows as committed and kept, oldest first.
        inflight: those that it knows as captured only.
        there: what the directory holds.
    """
    known = {checkpoint.index for checkpoint in recorded}
    spoken_for = known | trial.deleting.keys() | trial.lost.keys()
    adopted = tuple(
        index
        for index in sorted(there.manifests.keys() - spoken_for)
        # A lower number was given up or deleted, and somebody has put it back.
        if index >= trial.next_index or index in trial.captured
    )
    missing = tuple(
        (
            checkpoint.index,
            "its manifest is missing or damaged"
            if os.path.basename(checkpoint.path) in there.names
            else "its directory is gone",
        )
        for checkpoint in recorded
        if checkpoint.index not in there.manifests
    )
    attempts = [trial.attempts - 1, *(there.manifests[index].attempt for index in adopted)]
    return Reconciled(
        checkpoints=tuple(c for c in recorded if c.index in there.manifests),
        inflight=dict(inflight),
        adopted=adopted,
        missing=missing,
        attempt=max(attempts),
    )


def commit_of(trial_dir: str, manifest: Manifest, at: float, score: object) -> events.Committed:
    """What the keeper would have told of a checkpoint that is there."""
    hasher = new_hasher()
    hasher.update(manifests.to_bytes(manifest))
    return events.Committed(
        at=at,
        trial_id=manifest.trial,
        attempt=manifest.attempt,
        index=manifest.index,
        iteration=manifest.iteration,
        path=os.path.join(trial_dir, manifest.directory),
        nbytes=manifest.nbytes,
        digest=hasher.hexdigest(),
        row=manifest.metrics,
        score=score,
        validation=manifest.task,
        adopted=True,
    )
