"""What it has cost to save what searcher, scheduler, stopper and callbacks know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StateSaves:
    """How often a run saved its state, and for how long its driver was busy with that.

    By default the driver saves so seldom that it takes at most 5 % of its time, and at most every
    10 seconds; ``TUNE_GLOBAL_CHECKPOINT_S`` says how many seconds instead.

    Attributes:
        count: how often something new was saved, in all runs of the experiment.
        seconds: how long that took.
        elapsed_s: how long those runs took.
    """

    count: int
    seconds: float
    elapsed_s: float

    @property
    def share(self) -> float:
        """The part of the time that went into saving, 0 to 1."""
        return self.seconds / self.elapsed_s if self.elapsed_s else 0.0


def state_saves(experiment_path: str) -> StateSaves:
    """Return what the journal of an experiment says.

    Raises:
        JournalError: it cannot be read.
    """
    from milepost.journal import rebuild

    image = rebuild.image(experiment_path)
    return StateSaves(image.saves, image.saving_s, image.elapsed_s)
