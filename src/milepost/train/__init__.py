"""The part of Ray Train's names that tuning scripts use.

Configs and checkpoints are those of :mod:`milepost.tune`. Inside a function that ``Tuner.fit()``
runs, results are reported with ``milepost.tune.report``; the functions of the same name here say
so.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from milepost.api.configs import CheckpointConfig, FailureConfig, RunConfig, SyncConfig
    from milepost.checkpoint.handle import Checkpoint

_ORIGIN = {
    "Checkpoint": "milepost.checkpoint.handle",
    "CheckpointConfig": "milepost.api.configs",
    "FailureConfig": "milepost.api.configs",
    "RunConfig": "milepost.api.configs",
    "SyncConfig": "milepost.api.configs",
}

_DISTRIBUTED = ("DataConfig", "ScalingConfig", "TorchTrainer", "torch", "lightning", "v2")
_NOT_YET = "Training with several workers comes in a later version."

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "FailureConfig",
    "RunConfig",
    "SyncConfig",
    "get_checkpoint",
    "get_context",
    "report",
]


def report(*args: Any, **kwargs: Any) -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.report``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        RuntimeError: elsewhere; there is no training worker.
    """
    _refuse("report")


def get_checkpoint() -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.get_checkpoint``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        RuntimeError: elsewhere; there is no training worker.
    """
    _refuse("get_checkpoint")


def get_context() -> NoReturn:
    """Refuse: inside a tuning trial this is ``milepost.tune.get_context``.

    Raises:
        DeprecationWarning: inside a trial, as Ray does.
        RuntimeError: elsewhere; there is no training worker.
    """
    _refuse("get_context")


def _refuse(name: str) -> NoReturn:
    from milepost.worker.session import in_session

    advice = f"Use milepost.tune.{name} inside a function that Tuner.fit() runs."
    if in_session():
        raise DeprecationWarning(f"milepost.train.{name} does not work in a tuning trial. {advice}")
    raise RuntimeError(f"milepost.train.{name} was called outside a training worker. {advice}")


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    from milepost.api.available import missing

    raise missing(__name__, name, __all__, dict.fromkeys(_DISTRIBUTED, _NOT_YET))


def __dir__() -> list[str]:
    return sorted(__all__)
