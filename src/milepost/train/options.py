"""What all trainers take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.api.training.validation_config import ValidationConfig
    from milepost.checkpoint.handle import Checkpoint


class TrainerOptions(TypedDict, total=False):
    """Arguments that mean the same in all trainers; see :class:`DataParallelTrainer`."""

    train_loop_config: dict[str, Any] | None
    scaling_config: ScalingConfig | None
    run_config: RunConfig | None
    datasets: dict[str, Any] | None
    dataset_config: DataConfig | None
    resume_from_checkpoint: Checkpoint | None
    metadata: dict[str, Any] | None
    validation_config: ValidationConfig | None
