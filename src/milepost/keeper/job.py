"""What is to be committed, what became of it, and in whose name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from milepost.checkpoint.manifest import Manifest
from milepost.errors import CheckpointError, LeaseLostError
from milepost.journal.epochs import newest_epoch
from milepost.keeper.intent import ExperimentRef


class Part(NamedTuple):
    """The complete capture of one worker of a trial.

    Attributes:
        base: its path in staging, without suffix.
        rank: which worker captured it.
        nbytes: bytes of its files.
    """

    base: str
    rank: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A checkpoint that is captured and is to be committed.

    Attributes:
        parts: the captures of the trial's workers, by rank; most trials have one worker.
        missing: ranks of workers that ended before they had captured their parts.
        recovered: whether a part was found in staging before its worker told of it.
    """

    uuid: str
    trial_id: str
    attempt: int
    index: int
    parts: tuple[Part, ...]
    missing: tuple[int, ...] = ()
    recovered: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(part.nbytes for part in self.parts)


class Outcome(NamedTuple):
    """What became of a job.

    Attributes:
        path: the checkpoint directory.
        manifest: what was committed, or None.
        digest: XXH3-128 of the manifest's bytes.
        error: why it was not committed; None if it was.
        disk_full: whether storage had no room.
        keep: whether the captured bytes stay in staging.
        fenced: another driver has taken the experiment over, whose keeper will commit it.
        took_s: how long the group took of which it was a part.
        home: the experiment's directory.
    """

    job: Job
    path: str
    manifest: Manifest | None = None
    digest: str = ""
    error: str | None = None
    disk_full: bool = False
    keep: bool = False
    fenced: bool = False
    took_s: float = 0.0
    home: str = ""


class ExperimentGoneError(CheckpointError):
    """The experiment's directory is not where it was when the run began."""


class Owner(NamedTuple):
    """An experiment that this keeper serves, and the journal epoch of its driver."""

    experiment: ExperimentRef
    epoch: int

    def is_held(self) -> bool:
        """Whether :meth:`require_held` does not raise."""
        try:
            self.require_held()
        except (LeaseLostError, ExperimentGoneError):
            return False
        return True

    def require_held(self) -> None:
        """Raise if another driver has taken the experiment over, or it is not there any more.

        Raises:
            LeaseLostError: a higher epoch exists.
            ExperimentGoneError: the experiment directory is gone or is another one.
        """
        path = self.experiment.path
        try:
            info = os.stat(path)
        except FileNotFoundError:
            raise ExperimentGoneError(
                f"the experiment directory {path} is gone, so what was captured is not committed. "
                "It stays in staging; if the directory was renamed, restore it in its new place"
            ) from None
        if (info.st_dev, info.st_ino) != (self.experiment.device, self.experiment.inode):
            raise ExperimentGoneError(
                f"{path} is not the experiment directory that this run started with (it was "
                "replaced); what was captured is not committed into it. It stays in staging; if "
                "the directory was renamed, restore it in its new place"
            )
        highest = newest_epoch(path)
        if highest > self.epoch:
            raise LeaseLostError(
                f"another driver has taken {path} over (journal epoch {highest}, ours is "
                f"{self.epoch}); what was captured stays in staging for its keeper"
            )
