"""Fork servers between two fits of one process.

A server that took long to start (importing torch takes seconds) is kept, idle and without workers,
so that the next fit in the same session or notebook starts at once. Others end with their fit. A
kept server ends with the driver, at ``milepost.shutdown()``, or when the next fit needs another.
"""

from __future__ import annotations

import atexit
import threading

from milepost.api.session import at_shutdown
from milepost.engine.server_process import Identity, ServerProcess

KEEP_FROM_S = 0.5  # of processor time: what a busy machine adds does not count
_kept: list[ServerProcess] = []
_lock = threading.Lock()


def put(server: ServerProcess) -> None:
    """Keep a server without workers if it is worth it, else end it."""
    if not worth_keeping(server):
        server.close()
        return
    with _lock:
        if not _kept:
            atexit.register(end_all)
        _kept.append(server)
    at_shutdown(end_all)


def worth_keeping(server: ServerProcess) -> bool:
    """Whether a server took long to start, and runs."""
    return server.seconds >= KEEP_FROM_S and server.alive()


def take(identity: Identity) -> ServerProcess | None:
    """Return a kept server that fits; those that do not fit are ended.

    Args:
        identity: what it must have been started with.
    """
    with _lock:
        kept = list(_kept)
        _kept.clear()
    found = None
    for server in kept:
        if found is None and server.alive() and server.identity == identity:
            found = server
        else:
            server.close()
    return found


def end_all() -> None:
    """End every kept server."""
    with _lock:
        kept = list(_kept)
        _kept.clear()
    for server in kept:
        server.close()
