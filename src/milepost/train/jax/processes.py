"""JAX's processes, which a training function finds connected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from milepost.train.context import current
from milepost.train.ports import addresses
from milepost.tune.integration.reporting import library

if TYPE_CHECKING:
    from milepost.train.jax.config import JaxConfig


@contextlib.contextmanager
def processes(config: JaxConfig) -> Iterator[None]:
    """Have ``jax.distributed`` connect the workers for a while.

    ``JAX_PLATFORMS`` is set unless it is set already: without, JAX takes the first GPU that it
    sees, also where workers hold none.

    Args:
        config: what workers compute on.

    Raises:
        ImportError: JAX is not installed.
    """
    context = current("milepost.train.jax.processes")
    os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu" if config.use_gpu else "cpu")
    jax = library("jax")
    jax.distributed.initialize(
        coordinator_address=addresses(context)[0],
        num_processes=context.world_size,
        process_id=context.world_rank,
    )
    try:
        yield
    except BaseException:
        # The process ends then, and leaving would wait for workers that hang; one that is alone
        # may run another trial.
        if context.world_size == 1:
            jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()
