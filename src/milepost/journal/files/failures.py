"""``error.txt`` and ``error.pkl``: what went wrong with a trial."""

from __future__ import annotations

import os
import re
import time
from typing import Final

from milepost.journal import files

TEXT_NAME: Final = "error.txt"
PICKLE_NAME: Final = "error.pkl"
_HEADER: Final = re.compile(rb"^Failure # (\d+) \(occurred at ", re.MULTILINE)


def add(directory: str, number: int, at: float, text: str) -> None:
    """Append one failure to ``error.txt``.

    Args:
        directory: the trial's directory.
        number: counts the trial's failures from 1.
        at: when it happened, seconds since the epoch.
        text: the traceback, or what is known.
    """
    moment = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(at))
    entry = f"Failure # {number} (occurred at {moment})\n{text.rstrip()}\n"
    files.append(os.path.join(directory, TEXT_NAME), entry.encode(errors="backslashreplace"))


def keep_exception(directory: str, pickled: bytes) -> None:
    """Make ``error.pkl`` the last exception."""
    files.replace(os.path.join(directory, PICKLE_NAME), pickled)


def last_number(directory: str) -> int:
    """The highest number of a failure in ``error.txt``, or 0."""
    return max((number for number, _ in entries(directory)), default=0)


def entries(directory: str) -> list[tuple[int, str]]:
    """Number and text of each failure in ``error.txt``, in order."""
    try:
        with open(os.path.join(directory, TEXT_NAME), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    headers = list(_HEADER.finditer(data))
    ends = [header.start() for header in headers[1:]] + [len(data)]
    found = []
    for header, end in zip(headers, ends, strict=True):
        _, _, text = data[header.start() : end].partition(b"\n")
        found.append((int(header[1]), text.decode(errors="replace")))
    return found
