"""Trains with PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from milepost.api import checks
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.options import TrainerOptions
from milepost.train.torch.config import TorchConfig


class TorchTrainer(DataParallelTrainer):
    """Trains with PyTorch. Mirrors ``ray.train.torch.TorchTrainer``.

    The training function finds the process group of ``torch.distributed`` set up, also if there is
    only one worker.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        torch_config: how the process group is made. Without a backend it is NCCL for workers with
            GPUs, else Gloo.
    """

    _backend_argument: ClassVar[str] = "torch_config"

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        torch_config: TorchConfig | None = None,
        **options: Unpack[TrainerOptions],
    ) -> None:
        given = checks.instance_of(TorchConfig, TorchConfig)(
            type(self).__name__, "torch_config", torch_config
        )
        backend = copy.copy(given)
        if backend.backend is None:
            uses_gpus = getattr(options.get("scaling_config"), "use_gpu", False)
            backend.backend = "nccl" if uses_gpus else "gloo"
        super().__init__(train_loop_per_worker, backend_config=backend, **options)
