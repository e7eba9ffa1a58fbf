"""Where code of a trial runs, for trackers that it talks to by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """The trial that this process runs; all None outside of one.

    Attributes:
        trial_id: unique within the experiment.
        trial_name: for people.
        experiment_name: the experiment's directory.
        experiment_uuid: the same for as long as the experiment lives.
        rank: of this worker in its group; 0 in a trial of one worker.
    """

    trial_id: str | None = None
    trial_name: str | None = None
    experiment_name: str | None = None
    experiment_uuid: str | None = None
    rank: int = 0


def place() -> Place:
    """Return where this process is."""
    from milepost.worker.session import current_trial

    trial = current_trial()
    if trial is None:
        return Place()
    return Place(
        trial_id=trial.trial_id,
        trial_name=trial.trial_name,
        experiment_name=trial.storage.experiment_name,
        experiment_uuid=trial.storage.experiment_uuid,
        rank=trial.rank,
    )


class Nothing:
    """Stands for a tracker in workers that do not log: all calls do nothing."""

    def __getattr__(self, name: str) -> Nothing:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Nothing:
        """Do nothing."""
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *args: object) -> None:
        pass
