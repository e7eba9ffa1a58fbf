"""Trains with JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from milepost.api import checks
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.jax.config import JaxConfig
from milepost.train.options import TrainerOptions


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

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        jax_config: JaxConfig | None = None,
        **options: Unpack[TrainerOptions],
    ) -> None:
        if jax_config is None:
            uses_gpus = getattr(options.get("scaling_config"), "use_gpu", False)
            jax_config = JaxConfig(use_gpu=bool(uses_gpus))
        super().__init__(
            train_loop_per_worker,
            backend_config=checks.instance_of(JaxConfig)(
                type(self).__name__, "jax_config", jax_config
            ),
            **options,
        )
