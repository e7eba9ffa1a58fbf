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
    try:
        with open(os.path.join(directory, TEXT_NAME), "rb") as file:
            numbers = [int(found) for found in _HEADER.findall(file.read())]
    except FileNotFoundError:
        return 0
    return max(numbers, default=0)
