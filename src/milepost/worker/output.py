"""A worker's standard streams."""

from __future__ import annotations

import io
import os
import sys


def redirect(stdout_fd: int, stderr_fd: int) -> None:
    """Make these descriptors the process's standard output and error; both fds are closed.

    Lines appear at once, as on a terminal. Standard input is ``/dev/null``.
    """
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (stdout_fd, 1), (stderr_fd, 2)):
        os.dup2(source, target, inheritable=True)
        os.close(source)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
