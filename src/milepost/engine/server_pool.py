"""Fork servers between two fits of one process.

A server that took long to start (importing torch takes seconds) is kept, idle and without workers,
so that the next fit in the same session or notebook starts at once. Others end with their fit. A
kept server ends with the driver, at :func:`end_all`, or when the next fit needs another one.
"""

from __future__ import annotations

import atexit

from milepost.engine import preload
from milepost.engine.server_process import ServerProcess, Surroundings

KEEP_FROM_S = 0.5
_kept: list[ServerProcess] = []


def put(server: ServerProcess) -> None:
    """Keep a server without workers if it is worth it, else end it."""
    if server.seconds < KEEP_FROM_S or not server.alive():
        server.close()
        return
    if not _kept:
        atexit.register(end_all)
    _kept.append(server)


def take(surroundings: Surroundings, wanted: tuple[str, ...]) -> ServerProcess | None:
    """Return a kept server that fits; those that do not fit are ended.

    Args:
        surroundings: what it must have been started with.
        wanted: modules that it should have imported; it may lack some of the standard library.
    """
    found = None
    for server in list(_kept):
        _kept.remove(server)
        if (
            found is None
            and server.alive()
            and server.surroundings == surroundings
            and not preload.missing(wanted, server.preload)
        ):
            found = server
        else:
            server.close()
    return found


def end_all() -> None:
    """End every kept server."""
    while _kept:
        _kept.pop().close()
