"""What trainables execute, in files of their own, of which Milepost knows nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from chaos import moments

VARIABLE = "MILEPOST_CHAOS_BOOKS"

kept: dict[str, Any] = {}
"""Objects of a run that its script looks at when it is over, wherever they were unpickled."""


class Entry(NamedTuple):
    """One line of the books.

    Attributes:
        what: "begin" before an iteration is computed, "return" after ``report`` has returned,
            "save" when a class has written a checkpoint.
        trial: id of the trial.
        x: the searched value, which tells trials of different runs of one experiment apart.
        epoch: the iteration.
        token: unique to this execution.
    """

    what: str
    trial: str
    x: int
    epoch: int
    token: str


def note(what: str, trial: str, x: int, epoch: int, token: str) -> None:
    """Append a line; durable against the death of every process."""
    fd = os.open(
        os.path.join(os.environ[VARIABLE], "lines"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600
    )
    try:
        os.write(fd, f"{what} {trial} {x} {epoch} {token}\n".encode())
    finally:
        os.close(fd)
    moments.reached("line")


def only_once(name: str) -> bool:
    """Whether this is the first time, over all processes and runs, that ``name`` is asked for."""
    try:
        os.close(os.open(os.path.join(os.environ[VARIABLE], name), os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def read(directory: Path) -> list[Entry]:
    """All lines so far, in the order in which they were written."""
    lines = directory / "lines"
    if not lines.exists():
        return []
    entries = []
    for line in lines.read_text().splitlines():
        what, trial, x, epoch, token = line.split()
        entries.append(Entry(what, trial, int(x), int(epoch), token))
    return entries
