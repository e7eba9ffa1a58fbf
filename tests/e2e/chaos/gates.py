"""Places at which processes wait until others let them go on."""

from __future__ import annotations

import os
from pathlib import Path

from chaos import books


def wait_at(name: str) -> None:
    """Wait at the gate of that name, if there is a closed one, until it is opened."""
    try:
        with open(os.path.join(os.environ[books.VARIABLE], name), "rb") as fifo:
            fifo.read()
    except FileNotFoundError:
        return


class Gate:
    """A closed gate: a named pipe, whose readers wait until a writer has come and gone.

    Args:
        directory: the books of an ordeal.
        name: as given to :func:`wait_at`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(exist_ok=True)
        self._path = directory / name
        os.mkfifo(self._path)
        self._fd = -1

    def meet(self) -> None:
        """Return when somebody waits at the gate; it stays closed."""
        self._fd = os.open(self._path, os.O_WRONLY)

    def open(self) -> None:
        """Let everybody pass who waits, and everybody who comes later."""
        waiting = self._fd if self._fd >= 0 else os.open(self._path, os.O_RDWR)
        self._path.unlink()
        os.close(waiting)


def of(name: str) -> Gate:
    """A new gate for the processes of this run."""
    return Gate(Path(os.environ[books.VARIABLE]), name)
