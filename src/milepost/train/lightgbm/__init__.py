"""Training with LightGBM, with the API of ``ray.train.lightgbm``.

LightGBM is imported by what reads a model, when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.lightgbm.callback import RayTrainReportCallback
    from milepost.train.lightgbm.checkpoint import LightGBMCheckpoint
    from milepost.train.lightgbm.config import LightGBMConfig
    from milepost.train.lightgbm.frames import normalize_pandas_for_lightgbm
    from milepost.train.lightgbm.lightgbm_trainer import LightGBMTrainer
    from milepost.train.lightgbm.network import get_network_params

__all__ = [
    "LightGBMCheckpoint",
    "LightGBMConfig",
    "LightGBMTrainer",
    "RayTrainReportCallback",
    "get_network_params",
    "normalize_pandas_for_lightgbm",
]

_HERE = "milepost.train.lightgbm"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "LightGBMCheckpoint": f"{_HERE}.checkpoint",
        "LightGBMConfig": f"{_HERE}.config",
        "LightGBMTrainer": f"{_HERE}.lightgbm_trainer",
        "RayTrainReportCallback": f"{_HERE}.callback",
        "get_network_params": f"{_HERE}.network",
        "normalize_pandas_for_lightgbm": f"{_HERE}.frames",
    },
)
