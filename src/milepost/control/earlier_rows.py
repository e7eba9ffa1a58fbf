"""The rows that a trial reported in earlier runs, read from its result file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from milepost.journal.evidence import NO_KEY, key_of
from milepost.journal.files.result_json import NAME

if TYPE_CHECKING:
    from milepost.journal.objects import Objects


def logged(directory: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``result.json`` in order; none when there is no such file.

    A last line that is being written is left out.
    """
    try:
        file = open(os.path.join(directory, NAME), "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


class EarlierRows:
    """All rows of a trial up to a restore; nothing is read before somebody iterates.

    The result file has them, or the journal where the file is short of some or was not wanted.

    Args:
        experiment_path: the experiment's directory.
        trial_id: the trial.
        directory: the trial's directory, absolute.
        count: how many rows there are.
        up_to: the number of the last journal record before the restore.
        objects: where values lie that JSON cannot hold.
    """

    def __init__(
        self,
        experiment_path: str,
        trial_id: str,
        directory: str,
        count: int,
        up_to: int,
        objects: Objects,
    ) -> None:
        self._experiment_path = experiment_path
        self._trial_id = trial_id
        self._directory = directory
        self._count = count
        self._up_to = up_to
        self._objects = objects

    def __iter__(self) -> Iterator[dict[str, Any]]:
        found = 0
        for row in islice(logged(self._directory), self._count):
            found += 1
            yield row
        if found < self._count:
            yield from self._recorded()[found - self._count :]

    def has(self, row: dict[str, Any]) -> bool:
        """Whether a row is one of them; reads them."""
        key = key_of(row)
        return key != NO_KEY and any(key_of(each) == key for each in self)

    def _recorded(self) -> list[dict[str, Any]]:
        """The rows that are still in the journal: the last ones."""
        from milepost.journal import replay
        from milepost.journal.records import Reported
        from milepost.storage import codec

        rows = []
        for _, record in replay.records(self._experiment_path, up_to=self._up_to):
            if isinstance(record, Reported) and record.trial == self._trial_id:
                rows.append(codec.decode(record.row, self._objects.get))
        return rows
