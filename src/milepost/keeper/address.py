"""Unix sockets at paths of any length (the kernel's own limit is 107 bytes)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

BACKLOG = 4096


def listen(path: str) -> socket.socket:
    """Create a socket file at ``path`` and listen on it."""
    return _at(path, _listen)


def connect(path: str) -> socket.socket:
    """Connect to the socket file at ``path``.

    Raises:
        OSError: nobody has it open any more, or it is gone.
    """
    return _at(path, _connect)


def _at(path: str, act: Callable[[socket.socket, str], None]) -> socket.socket:
    # Through the directory's descriptor the address stays short whatever the directory is.
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        act(sock, f"/proc/self/fd/{fd}/{name}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(fd)
    return sock


def _listen(sock: socket.socket, address: str) -> None:
    sock.bind(address)
    sock.listen(BACKLOG)


def _connect(sock: socket.socket, address: str) -> None:
    sock.connect(address)
