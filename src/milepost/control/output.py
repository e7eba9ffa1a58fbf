"""What workers print: shown line by line with the trial's name, and kept in files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, Literal

from milepost.storage import posix

Stream = Literal["stdout", "stderr"]

# A line that never ends is cut, so that it does not fill the memory.
_LONGEST_LINE = 1 << 16


class WorkerOutput:
    """Takes pieces of output and makes lines of them.

    Args:
        files: names of the files for stdout and stderr in each trial's directory; None for none.
        show: where lines go; None is this process's own stdout and stderr.
    """

    def __init__(
        self,
        files: tuple[str | None, str | None],
        show: Callable[[str, Stream], None] | None,
    ) -> None:
        self._names: dict[Stream, str | None] = {"stdout": files[0], "stderr": files[1]}
        self._show = show if show is not None else _print
        self._rest: dict[tuple[str, Stream], bytes] = {}
        self._files: dict[str, IO[bytes]] = {}

    def begin(self, directory: str) -> None:
        """A trial begins in this directory: its files are there even if nothing is written."""
        for name in self._names.values():
            if name is not None:
                self._file(directory, name)

    def write(
        self, worker_id: str, *, label: str, directory: str, stream: Stream, data: bytes
    ) -> None:
        """Take a piece of a worker's output.

        Args:
            worker_id: who wrote it.
            label: put in front of each line, in brackets.
            directory: the directory of the trial that it runs.
            stream: where it was written.
            data: what was written; may end anywhere.
        """
        name = self._names[stream]
        if name is not None:
            self._file(directory, name).write(data)
        *lines, rest = (self._rest.pop((worker_id, stream), b"") + data).split(b"\n")
        for line in lines:
            self._line(label, line, stream)
        if len(rest) > _LONGEST_LINE:
            self._line(label, rest, stream)
        elif rest:
            self._rest[worker_id, stream] = rest

    def end(self, worker_id: str, *, label: str, directory: str) -> None:
        """The worker's trial has ended: show what is left of its output, close its files."""
        streams: tuple[Stream, ...] = ("stdout", "stderr")
        for stream in streams:
            rest = self._rest.pop((worker_id, stream), None)
            if rest is not None:
                self._line(label, rest, stream)
            name = self._names[stream]
            if name is not None:
                file = self._files.pop(os.path.join(directory, name), None)
                if file is not None:
                    file.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _line(self, label: str, line: bytes, stream: Stream) -> None:
        # Of a progress bar that was redrawn in place, the last state is what one would see.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        self._show(f"({label}) {text}", stream)

    def _file(self, directory: str, name: str) -> IO[bytes]:
        path = os.path.join(directory, name)
        file = self._files.get(path)
        if file is None:
            posix.make_below(os.path.dirname(directory), os.path.dirname(path))
            file = self._files[path] = open(path, "ab", buffering=0)  # noqa: SIM115 - kept open
        return file


def _print(text: str, stream: Stream) -> None:
    out = sys.stdout if stream == "stdout" else sys.stderr
    if out is not None:  # print() would take None for standard output
        print(text, file=out, flush=True)
