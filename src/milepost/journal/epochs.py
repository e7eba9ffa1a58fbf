"""Names of the journal's files, and the newest epoch among them.

Each driver that takes an experiment over starts an epoch, and each compaction a new segment of
it: ``00000001.jsonl``, ``00000001-000002.jsonl``, ``00000002.jsonl``, ...
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from milepost.journal import experiment as experiments

_JOURNAL_NAME: Final = re.compile(r"(\d{8})(?:-(\d{6}))?\.jsonl")
_SNAPSHOT_NAME: Final = re.compile(r"snapshot-(\d{8})-(\d{6})\.json")


class Segment(NamedTuple):
    """One file of the journal; they sort in the order in which they were begun."""

    epoch: int
    number: int

    @property
    def name(self) -> str:
        """Its file name."""
        if self.number == 1:
            return f"{self.epoch:08d}.jsonl"
        return f"{self.epoch:08d}-{self.number:06d}.jsonl"

    @property
    def snapshot_name(self) -> str:
        """Name of the snapshot that covers this segment and all before it."""
        return f"snapshot-{self.epoch:08d}-{self.number:06d}.json"


NOTHING: Final = Segment(0, 0)


def journal_directory(experiment_path: str) -> str:
    """The directory of an experiment's journal files."""
    return os.path.join(experiment_path, experiments.HOME, experiments.JOURNAL)


def segments(experiment_path: str) -> list[Segment]:
    """All journal files, oldest first; other names are ignored."""
    found = []
    for name in os.listdir(journal_directory(experiment_path)):
        match = _JOURNAL_NAME.fullmatch(name)
        if match is not None:
            found.append(Segment(int(match[1]), int(match[2] or 1)))
    return sorted(found)


def snapshots(experiment_path: str) -> list[Segment]:
    """The last segment that each snapshot covers, oldest first."""
    found = []
    for name in os.listdir(os.path.join(experiment_path, experiments.HOME)):
        match = _SNAPSHOT_NAME.fullmatch(name)
        if match is not None:
            found.append(Segment(int(match[1]), int(match[2])))
    return sorted(found)


def newest_epoch(experiment_path: str) -> int:
    """The highest epoch that anybody has begun, or 0.

    Whoever acts for an epoch must not publish or delete anything once a higher one exists.
    """
    newest = 0
    for name in os.listdir(journal_directory(experiment_path)):
        match = _JOURNAL_NAME.fullmatch(name)
        if match is not None and int(match[1]) > newest:
            newest = int(match[1])
    return newest
