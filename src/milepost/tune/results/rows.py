"""The result rows that a trial's directory holds, as dicts and as data frames."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("milepost.tune")

ROWS_FILE = "result.json"
TABLE_FILE = "progress.csv"

_TAIL_BYTES = 64 * 1024


def last_row(trial_dir: str) -> dict[str, Any] | None:
    """Return the last complete row that a trial logged, or None when it logged none.

    Only the end of ``result.json`` is read. A last line that a crash cut off does not count.
    Without ``result.json`` the row comes from ``progress.csv``, with flat names.
    """
    path = os.path.join(trial_dir, ROWS_FILE)
    if os.path.isfile(path):
        for line in _lines_backwards(path):
            row = _parse(line, path)
            if row is not None:
                return row
        return None
    table = list(_table_rows(trial_dir))
    return table[-1] if table else None


def rows(trial_dir: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``result.json`` in order, else those of ``progress.csv``."""
    path = os.path.join(trial_dir, ROWS_FILE)
    if not os.path.isfile(path):
        yield from _table_rows(trial_dir)
        return
    with open(path, "rb") as file:
        for line in file:
            row = _parse(line, path)
            if row is not None:
                yield row


def has_rows(trial_dir: str) -> bool:
    """Tell whether a directory holds the log of a trial, even an empty one."""
    return any(os.path.isfile(os.path.join(trial_dir, name)) for name in (ROWS_FILE, TABLE_FILE))


def frame(trial_dir: str) -> DataFrame:
    """Return all logged rows of a trial as a frame with flat column names (``a/b``).

    Returns:
        One row per report; an empty frame when nothing was logged.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = import_pandas("metrics_dataframe")
    logged = list(rows(trial_dir))
    if not logged:
        return pandas.DataFrame()
    return pandas.json_normalize(logged, sep="/")


def import_pandas(wanted: str) -> Any:
    """Return the pandas module.

    Args:
        wanted: what needs it, for the message.

    Raises:
        ImportError: it is not installed; the message has the pip command.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"{wanted} is a pandas DataFrame, and pandas is not installed: "
            "pip install 'milepost[pandas]'. Metrics are available without it as Result.metrics."
        ) from error
    return pandas


def _parse(line: bytes, path: str) -> dict[str, Any] | None:
    text = line.strip()
    if not text:
        return None
    try:
        row = json.loads(text)
    except ValueError:
        log.warning(
            "a line of %s was cut off and is left out (%d bytes, starting %r)",
            path,
            len(line),
            text[:40],
        )
        return None
    return row if isinstance(row, dict) else None


def _lines_backwards(path: str) -> Iterator[bytes]:
    """Yield the lines of a file from its end, reading no more of it than is asked for."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        while position:
            step = min(_TAIL_BYTES, position)
            position = file.seek(position - step)
            rest = file.read(step) + rest
            first, *lines = rest.split(b"\n")
            yield from reversed(lines)
            rest = first
        yield rest


def _table_rows(trial_dir: str) -> Iterator[dict[str, Any]]:
    path = os.path.join(trial_dir, TABLE_FILE)
    if not os.path.isfile(path):
        return
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: _number(text) for name, text in row.items() if name is not None}


def _number(text: str | None) -> Any:
    """Read a cell the way a spreadsheet does: numbers and booleans are values, the rest text."""
    if not text:
        return None
    if text in ("True", "False"):
        return text == "True"
    if "_" in text:  # int() and float() would read "1_0" as ten
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
