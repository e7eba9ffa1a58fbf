"""Trains with JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.spelling import spelled
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.jax.config import JaxConfig

if TYPE_CHECKING:
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.api.training.validation_config import ValidationConfig
    from milepost.checkpoint.handle import Checkpoint


class JaxTrainer(DataParallelTrainer):
    """Trains with JAX. Mirrors ``ray.train.v2.jax.JaxTrainer``.

    The training function finds ``jax.distributed`` set up: ``jax.devices()`` are those of all
    workers, on GPUs and on CPUs.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        jax_config: what workers compute on; by default on GPUs if the scaling config has
            ``use_gpu``, else on CPUs.
    """

    _backend_argument: ClassVar[str] = "jax_config"

    @spelled
    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        jax_config: JaxConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        if jax_config is None:
            jax_config = JaxConfig(use_gpu=bool(getattr(scaling_config, "use_gpu", False)))
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=checks.instance_of(JaxConfig)(
                type(self).__name__, "jax_config", jax_config
            ),
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )
