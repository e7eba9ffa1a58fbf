"""Training with XGBoost, with the API of ``ray.train.xgboost``.

XGBoost is imported when the callback, or a model, is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.xgboost.callback import RayTrainReportCallback
    from milepost.train.xgboost.checkpoint import XGBoostCheckpoint
    from milepost.train.xgboost.config import XGBoostConfig
    from milepost.train.xgboost.xgboost_trainer import XGBoostTrainer

__all__ = ["RayTrainReportCallback", "XGBoostCheckpoint", "XGBoostConfig", "XGBoostTrainer"]

_HERE = "milepost.train.xgboost"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "RayTrainReportCallback": f"{_HERE}.callback",
        "XGBoostCheckpoint": f"{_HERE}.checkpoint",
        "XGBoostConfig": f"{_HERE}.config",
        "XGBoostTrainer": f"{_HERE}.xgboost_trainer",
    },
)
