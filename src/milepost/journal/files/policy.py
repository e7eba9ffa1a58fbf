"""``pbt_global.txt`` and ``pbt_policy_<trial>.txt``: how trials went on from each other.

The first has a line for each time. The second is the line of descent of one trial: what the donor's
file had, and one more line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from milepost.journal import files
from milepost.journal.records import Exploited

GLOBAL_NAME: Final = "pbt_global.txt"


class PolicyFiles:
    """Keeps these files of an experiment in step with its records.

    Args:
        experiment_path: where they are.
    """

    def __init__(self, experiment_path: str) -> None:
        self._path = experiment_path
        self._lines: dict[str, list[str]] = {}

    def add(self, record: Exploited) -> None:
        """Write what a record says."""
        if self._note(record):
            files.append(self._global, _bytes([record.policy]))
            self._write(record.trial)

    def adopt(self, history: Iterable[Exploited]) -> None:
        """Have the files show these records and nothing else, whatever happened to them.

        Args:
            history: all of the experiment, in their order.
        """
        shown = [record.policy for record in history if self._note(record)]
        if shown or os.path.exists(self._global):
            _ensure(self._global, _bytes(shown))
        for trial in self._lines:
            _ensure(self._of(trial), _bytes(self._lines[trial]))

    def _note(self, record: Exploited) -> bool:
        if not record.policy:
            return False
        inherited = self._lines.get(record.donor) or self._lines.get(record.trial, [])
        self._lines[record.trial] = [*inherited, record.policy]
        return True

    def _write(self, trial: str) -> None:
        files.replace(self._of(trial), _bytes(self._lines[trial]))

    @property
    def _global(self) -> str:
        return os.path.join(self._path, GLOBAL_NAME)

    def _of(self, trial: str) -> str:
        return os.path.join(self._path, f"pbt_policy_{trial}.txt")


def _bytes(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _ensure(path: str, data: bytes) -> None:
    try:
        with open(path, "rb") as file:
            if file.read() == data:
                return
    except FileNotFoundError:
        pass
    files.replace(path, data)
