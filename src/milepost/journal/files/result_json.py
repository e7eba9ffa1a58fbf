"""``result.json``: one JSON object per line, one line per report."""

from __future__ import annotations

import os
from typing import Final

from milepost.journal import files
from milepost.journal.files.rows import Row

NAME: Final = "result.json"


class ResultJson:
    """The rows of one trial as lines of JSON, with ``config`` in each.

    Args:
        directory: the trial's directory.
        config: the trial's config as JSON; rows added later have the one that is set then.
    """

    def __init__(self, directory: str, config: bytes) -> None:
        self._path = os.path.join(directory, NAME)
        self.config = config
        self._lines: list[bytes] = []

    def add(self, row: Row) -> None:
        """Take one row; it is written by :meth:`flush`."""
        self._lines.append(row.line(self.config))

    def flush(self) -> None:
        """Write what was added."""
        if self._lines:
            files.append(self._path, b"".join(self._lines))
            self._lines.clear()

    def keep(self, rows: int) -> int:
        """Drop everything after the first ``rows`` rows, and a torn one at the end.

        Returns:
            How many rows are there now.
        """
        try:
            with open(self._path, "rb") as file:
                kept, length = 0, 0
                for line in file:
                    if kept == rows or not line.endswith(b"\n"):
                        break
                    kept += 1
                    length += len(line)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0
        if length < size:
            files.cut(self._path, length)
        return kept
