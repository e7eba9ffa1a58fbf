"""This machine, as result rows name it."""

from __future__ import annotations

import contextlib
import functools
import socket


@functools.cache
def hostname() -> str:
    """The machine's name."""
    return socket.gethostname()


@functools.cache
def ip() -> str:
    """The address under which others most likely reach this machine; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # reserved for documentation; only the route is looked up
        address: str = probe.getsockname()[0]
        return address
    return "127.0.0.1"
