"""Trains with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.spelling import spelled
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.tensorflow.config import TensorflowConfig

if TYPE_CHECKING:
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.api.training.validation_config import ValidationConfig
    from milepost.checkpoint.handle import Checkpoint


class TensorflowTrainer(DataParallelTrainer):
    """Trains with TensorFlow. Mirrors ``ray.train.tensorflow.TensorflowTrainer``.

    The training function finds ``TF_CONFIG`` set, so that
    ``tf.distribute.MultiWorkerMirroredStrategy()`` is one of all workers.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        tensorflow_config: how the cluster is described.
    """

    _backend_argument: ClassVar[str] = "tensorflow_config"

    @spelled
    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        tensorflow_config: TensorflowConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=checks.instance_of(TensorflowConfig, TensorflowConfig)(
                type(self).__name__, "tensorflow_config", tensorflow_config
            ),
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )
