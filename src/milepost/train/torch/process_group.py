"""The process group of PyTorch that a training function finds set up."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from milepost.train import collective
from milepost.train.context import TrainContext, current
from milepost.train.torch.devices import get_device

if TYPE_CHECKING:
    from torch.distributed import TCPStore

    from milepost.train.torch.config import TorchConfig

log = logging.getLogger("milepost.train")

#: Where workers of one machine meet; nobody else can.
_HOST = "127.0.0.1"


@contextlib.contextmanager
def process_group(config: TorchConfig) -> Iterator[None]:
    """Have the workers' process group for a while, and the environment variables of torchrun.

    Each attempt makes a new store at a new port: the group of one that died would leave addresses
    in an old one that nobody answers at any more.

    Args:
        config: the backend, and how long its operations may take.
    """
    import torch.distributed as dist

    context = current("milepost.train.torch.process_group")
    patience = config.timeout_s
    timeout = patience if isinstance(patience, timedelta) else timedelta(seconds=patience)
    store = _store(context, timeout)
    os.environ.update(
        MASTER_ADDR=_HOST,
        MASTER_PORT=str(store.port),
        RANK=str(context.world_rank),
        WORLD_SIZE=str(context.world_size),
        LOCAL_RANK=str(context.local_rank),
        LOCAL_WORLD_SIZE=str(context.local_world_size),
        NODE_RANK=str(context.node_rank),
    )
    os.environ.setdefault("ACCELERATE_TORCH_DEVICE", str(get_device()))
    backend = config.backend or "gloo"
    if "nccl" in backend and "TORCH_NCCL_BLOCKING_WAIT" not in os.environ:
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    dist.init_process_group(
        backend,
        store=store,
        rank=context.world_rank,
        world_size=context.world_size,
        timeout=timeout,
    )
    yield
    # After an error the process ends anyway, and leaving could wait for workers that hang.
    if dist.is_initialized():
        dist.destroy_process_group()


def _store(context: TrainContext, timeout: timedelta) -> TCPStore:
    """The store in which workers find each other; rank 0 serves it."""
    from torch.distributed import TCPStore

    store = None
    if context.world_rank == 0:
        store = TCPStore(
            _HOST, 0, context.world_size, is_master=True, timeout=timeout, wait_for_workers=False
        )
    port = collective.shared(0 if store is None else store.port, "the start of training")
    if store is None:
        store = TCPStore(_HOST, port, context.world_size, is_master=False, timeout=timeout)
    return store
