"""Trains with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from milepost.api import checks
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.options import TrainerOptions
from milepost.train.tensorflow.config import TensorflowConfig


class TensorflowTrainer(DataParallelTrainer):
    """Trains with TensorFlow. Mirrors ``ray.train.tensorflow.TensorflowTrainer``.

    The training function finds ``TF_CONFIG`` set, so that
    ``tf.distribute.MultiWorkerMirroredStrategy()`` is one of all workers.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        tensorflow_config: how the cluster is described.
    """

    _backend_argument: ClassVar[str] = "tensorflow_config"

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        tensorflow_config: TensorflowConfig | None = None,
        **options: Unpack[TrainerOptions],
    ) -> None:
        super().__init__(
            train_loop_per_worker,
            backend_config=checks.instance_of(TensorflowConfig, TensorflowConfig)(
                type(self).__name__, "tensorflow_config", tensorflow_config
            ),
            **options,
        )
