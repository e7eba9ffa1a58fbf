"""Where workers meet whose framework wants to be told the addresses of all beforehand."""

from __future__ import annotations

import contextlib
import socket

from milepost.train import collective
from milepost.train.context import TrainContext

#: Workers are on one machine; nobody else can reach them.
HOST = "127.0.0.1"


def addresses(context: TrainContext) -> list[str]:
    """Return an address for each worker, ``host:port`` by rank; the same list on all of them.

    The ports are free when rank 0 chooses them. Should another program take one before the
    framework does, the framework fails, and with it the attempt.

    Args:
        context: of this worker. All workers call this.
    """
    chosen: list[str] = []
    if context.world_rank == 0:
        with contextlib.ExitStack() as held:
            for _ in range(context.world_size):
                # All are held until the last is chosen, so that none is chosen twice.
                one = held.enter_context(socket.socket())
                one.bind((HOST, 0))
                chosen.append(f"{HOST}:{one.getsockname()[1]}")
    return collective.shared(chosen, "the start of training")
