"""Trains with PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.spelling import spelled
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.torch.config import TorchConfig

if TYPE_CHECKING:
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.api.training.validation_config import ValidationConfig
    from milepost.checkpoint.handle import Checkpoint


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

    @spelled
    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        torch_config: TorchConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        given = checks.instance_of(TorchConfig, TorchConfig)(
            type(self).__name__, "torch_config", torch_config
        )
        backend = copy.copy(given)
        if backend.backend is None:
            uses_gpus = scaling_config is not None and getattr(scaling_config, "use_gpu", False)
            backend.backend = "nccl" if uses_gpus else "gloo"
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=backend,
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )
