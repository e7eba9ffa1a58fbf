"""Training with several workers, with the API of Ray Train.

Write ``from milepost import train`` where a script says ``from ray import train``. Every name is
loaded when it is first used, so importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.api.configs import CheckpointConfig, SyncConfig
    from milepost.api.training.backend import BackendConfig
    from milepost.api.training.callback import TrainRunContext, UserCallback
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.failure_config import FailureConfig
    from milepost.api.training.logging_config import LoggingConfig
    from milepost.api.training.preemption import PreemptionInfo
    from milepost.api.training.reported import (
        CheckpointConsistencyMode,
        CheckpointUploadMode,
        ReportedCheckpoint,
        ReportedCheckpointStatus,
    )
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.api.training.validation_config import (
        ValidationConfig,
        ValidationFn,
        ValidationTaskConfig,
    )
    from milepost.checkpoint.handle import Checkpoint
    from milepost.errors import (
        ControllerError,
        NCCLHangError,
        PreemptionError,
        TrainingFailedError,
        WorkerGroupError,
    )
    from milepost.train.constants import TRAIN_DATASET_KEY
    from milepost.train.context import TrainContext, get_context
    from milepost.train.data.shards import get_dataset_shard
    from milepost.train.data_parallel_trainer import DataParallelTrainer
    from milepost.train.reported_checkpoints import get_all_reported_checkpoints
    from milepost.train.result import Result
    from milepost.train.session import get_checkpoint, get_preemption_info, report

_WHERE = {
    "milepost.api.configs": ("CheckpointConfig", "SyncConfig"),
    "milepost.checkpoint.handle": ("Checkpoint",),
    "milepost.errors": (
        "ControllerError",
        "NCCLHangError",
        "PreemptionError",
        "TrainingFailedError",
        "WorkerGroupError",
    ),
    "milepost.api.training.backend": ("BackendConfig",),
    "milepost.api.training.callback": ("TrainRunContext", "UserCallback"),
    "milepost.train.constants": ("TRAIN_DATASET_KEY",),
    "milepost.train.context": ("TrainContext", "get_context"),
    "milepost.train.data.shards": ("get_dataset_shard",),
    "milepost.train.data_parallel_trainer": ("DataParallelTrainer",),
    "milepost.train.reported_checkpoints": ("get_all_reported_checkpoints",),
    "milepost.train.result": ("Result",),
    "milepost.train.session": ("get_checkpoint", "get_preemption_info", "report"),
    "milepost.api.training.data_config": ("DataConfig",),
    "milepost.api.training.failure_config": ("FailureConfig",),
    "milepost.api.training.logging_config": ("LoggingConfig",),
    "milepost.api.training.preemption": ("PreemptionInfo",),
    "milepost.api.training.reported": (
        "CheckpointConsistencyMode",
        "CheckpointUploadMode",
        "ReportedCheckpoint",
        "ReportedCheckpointStatus",
    ),
    "milepost.api.training.run_config": ("RunConfig",),
    "milepost.api.training.scaling_config": ("ScalingConfig",),
    "milepost.api.training.validation_config": (
        "ValidationConfig",
        "ValidationFn",
        "ValidationTaskConfig",
    ),
}

#: Parts of this package that scripts reach as attributes, such as ``train.error``.
_PARTS = (
    "backend",
    "collective",
    "constants",
    "context",
    "data_parallel_trainer",
    "error",
    "lightgbm",
    "huggingface",
    "jax",
    "lightning",
    "tensorflow",
    "torch",
    "v2",
    "xgboost",
)

_ORIGIN = {name: module for module, names in _WHERE.items() for name in names}

_ADVICE = {
    "horovod": "Horovod is not part of it: use TorchTrainer, whose process group does the same.",
    "trainer": "Trainers are in milepost.train.torch and its siblings, and in "
    "milepost.train.data_parallel_trainer.",
}

__all__ = [
    "BackendConfig",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointConsistencyMode",
    "CheckpointUploadMode",
    "ControllerError",
    "DataConfig",
    "DataParallelTrainer",
    "FailureConfig",
    "LoggingConfig",
    "NCCLHangError",
    "PreemptionError",
    "PreemptionInfo",
    "ReportedCheckpoint",
    "ReportedCheckpointStatus",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "SyncConfig",
    "TRAIN_DATASET_KEY",
    "TrainContext",
    "TrainRunContext",
    "TrainingFailedError",
    "UserCallback",
    "ValidationConfig",
    "ValidationFn",
    "ValidationTaskConfig",
    "WorkerGroupError",
    "get_all_reported_checkpoints",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "get_preemption_info",
    "report",
]


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    from milepost.api.available import missing

    raise missing(__name__, name, __dir__(), _ADVICE)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
