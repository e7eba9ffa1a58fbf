"""Where the directory of an experiment is while a run goes on in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from milepost.errors import JournalError, StorageError

if TYPE_CHECKING:
    from milepost.journal.experiment import Experiment

log = logging.getLogger("milepost.tune")

_DELETED = " (deleted)"


class Whereabouts:
    """Follows a directory that somebody may move or delete during the run.

    Use it in a ``with`` statement.

    Args:
        experiment: as it is when the run begins.
        go_on: path of the experiment -> the statement that goes on with it.
    """

    def __init__(self, experiment: Experiment, go_on: Callable[[str], str]) -> None:
        self._experiment = experiment
        self._go_on = go_on
        self._fd = -1
        try:
            self._fd = os.open(experiment.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:  # it is gone already, which the run will notice
            log.debug("%s cannot be followed: %s", experiment.path, error)

    def __enter__(self) -> Whereabouts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def loss(self) -> JournalError | None:
        """What to tell if the experiment is no longer where it was; None if it is."""
        path = self._experiment.path
        if os.path.lexists(self._experiment.home) and self._is_at(path):
            return None
        now = self._moved_to()
        if now is not None:
            return JournalError(
                f"{path} is gone: the directory of the experiment was moved to {now} while the "
                "run was going on in it, so the run has ended. What was reported and committed "
                "until then is safe there, and nothing was made at the old place. To go on: "
                f"{self._go_on(now)}"
            )
        return JournalError(
            f"{path} is gone: the directory of the experiment was deleted, or moved to another "
            "file system, while the run was going on in it, so the run has ended. Nothing was "
            "made at the old place. Wherever the directory is now, what was reported and "
            "committed until then is in it; to go on: "
            f"{self._go_on('<where it is now>')}"
        )

    def _moved_to(self) -> str | None:
        """The path that the directory has now, as far as the system can tell."""
        try:
            now = os.readlink(f"/proc/self/fd/{self._fd}")
        except OSError:
            return None
        return now if not now.endswith(_DELETED) and self._is_at(now) else None

    def _is_at(self, path: str) -> bool:
        from milepost.journal import experiment as experiments

        try:
            return experiments.open(path).uuid == self._experiment.uuid
        except StorageError as error:  # missing, or not to be read now: then it was not moved
            return not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        except JournalError:  # damaged, which is another problem
            return True
