"""``progress.csv``: one line per report, with a column for each flat key."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Final

from milepost.journal import files
from milepost.journal.files.rows import Row

NAME: Final = "progress.csv"


class ProgressCsv:
    """The rows of one trial as a table.

    A key that appears for the first time in a later row makes the table wider: it is written
    again with one more column, which is empty in the earlier rows.

    Args:
        directory: the trial's directory.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, NAME)
        self._columns: list[str] | None = None
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        """Take one row; it is written by :meth:`flush`."""
        self._rows.append(row.flat)

    def flush(self) -> None:
        """Write what was added."""
        if not self._rows:
            return
        columns = self._columns if self._columns is not None else self._read_columns()
        known = set(columns)
        fresh: dict[str, None] = {}
        for row in self._rows:
            if not known.issuperset(row):
                fresh.update(dict.fromkeys(key for key in row if key not in known))
        wider = [*columns, *fresh]
        if not columns:
            files.append(self._path, _text([wider, *self._cells(wider)]))
        elif not fresh:
            files.append(self._path, _text(self._cells(wider)))
        else:
            old = [[*line, *[""] * len(fresh)] for line in self._read()[1:]]
            files.replace(self._path, _text([wider, *old, *self._cells(wider)]))
        self._columns = wider
        self._rows.clear()

    def keep(self, rows: int) -> int:
        """Drop everything after the first ``rows`` rows, and a torn one at the end.

        Returns:
            How many rows are there now.
        """
        self._columns = None
        kept, length, start, quotes = -1, 0, 0, 0  # the first line is no row
        try:
            with open(self._path, "rb") as file:
                for line in file:
                    if kept == rows or not line.endswith(b"\n"):
                        break
                    start += len(line)
                    quotes += line.count(b'"')
                    if quotes % 2 == 0:  # a line end between quotes belongs to a value
                        kept += 1
                        length = start
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0
        if length < size:
            files.cut(self._path, length)
        return max(kept, 0)

    def _cells(self, columns: list[str]) -> list[list[Any]]:
        return [[row.get(column, "") for column in columns] for row in self._rows]

    def _read_columns(self) -> list[str]:
        try:
            with open(self._path, encoding="utf-8", newline="") as file:
                return next(csv.reader(file), [])
        except FileNotFoundError:
            return []

    def _read(self) -> list[list[str]]:
        with open(self._path, encoding="utf-8", newline="") as file:
            return list(csv.reader(file))


def _text(lines: list[list[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode(errors="backslashreplace")
