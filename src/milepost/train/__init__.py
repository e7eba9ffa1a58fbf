"""Training with several workers, with the API of Ray Train.

Write ``from milepost import train`` where a script says ``from ray import train``. Every name is
loaded when it is first used, so importing this package costs next to nothing. Inside a function
that ``Tuner.fit()`` runs, results are reported with ``milepost.tune.report``; the functions of the
same name here say so.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

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
_PARTS = ("backend", "constants", "error", "torch")

_ORIGIN = {name: module for module, names in _WHERE.items() for name in names}

_NOT_YET = "Training with several workers comes in a later version."
_DISTRIBUTED = dict.fromkeys(
    ("Result", "TrainContext", "get_dataset_shard", "lightning", "trainer", "v2"), _NOT_YET
)

__all__ = [
    "BackendConfig",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointConsistencyMode",
    "CheckpointUploadMode",
    "ControllerError",
    "DataConfig",
    "FailureConfig",
    "LoggingConfig",
    "NCCLHangError",
    "PreemptionError",
    "PreemptionInfo",
    "ReportedCheckpoint",
    "ReportedCheckpointStatus",
    "RunConfig",
    "ScalingConfig",
    "SyncConfig",
    "TRAIN_DATASET_KEY",
    "TrainRunContext",
    "TrainingFailedError",
    "UserCallback",
    "ValidationConfig",
    "ValidationFn",
    "ValidationTaskConfig",
    "WorkerGroupError",
    "get_checkpoint",
    "get_context",
    "report",
]


def report(*args: Any, **kwargs: Any) -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.report``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        SessionMisuseError: elsewhere (also a ``RuntimeError``); there is no training worker.
    """
    _refuse("report")


def get_checkpoint() -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.get_checkpoint``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        SessionMisuseError: elsewhere (also a ``RuntimeError``); there is no training worker.
    """
    _refuse("get_checkpoint")


def get_context() -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.get_context``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        SessionMisuseError: elsewhere (also a ``RuntimeError``); there is no training worker.
    """
    _refuse("get_context")


def _refuse(name: str) -> NoReturn:
    from milepost.errors import SessionMisuseError
    from milepost.worker.session import in_session

    advice = f"Use milepost.tune.{name} inside a function that Tuner.fit() runs."
    if in_session():
        raise DeprecationWarning(f"milepost.train.{name} does not work in a tuning trial. {advice}")
    raise SessionMisuseError(
        f"milepost.train.{name} was called outside a training worker. {advice}"
    )


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    from milepost.api.available import missing

    raise missing(__name__, name, __dir__(), _DISTRIBUTED)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
