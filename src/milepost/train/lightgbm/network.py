"""The network of LightGBM's workers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from milepost.train.context import current
from milepost.train.ports import addresses

log = logging.getLogger("milepost.train")

_params: dict[str, Any] = {}


def get_network_params() -> dict[str, Any]:
    """Return parameters with which LightGBM trains one model in all workers. Mirrors Ray's.

    Put them among those of ``lightgbm.train``: ``{**params, **get_network_params()}``. Each worker
    passes its share of the rows, and ``tree_learner="data"`` or another that is distributed.

    Returns:
        ``num_machines``, ``machines`` (``host:port`` by rank, separated by commas) and
        ``local_listen_port``; an empty dict outside a function of ``LightGBMTrainer``, with a
        line in the log.
    """
    if not _params:
        log.warning(
            "milepost.train.lightgbm.get_network_params() was called outside a function that "
            "LightGBMTrainer runs, where there are no other workers; it returns {}."
        )
    return dict(_params)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Let :func:`get_network_params` know the workers for a while."""
    context = current("milepost.train.lightgbm.network")
    machines = addresses(context)
    _params.update(
        num_machines=context.world_size,
        machines=",".join(machines),
        local_listen_port=int(machines[context.world_rank].rpartition(":")[2]),
    )
    try:
        yield
    finally:
        _params.clear()
