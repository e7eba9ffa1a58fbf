"""PyTorch Lightning in training workers, with the API of ``ray.train.lightning``.

Lightning is imported when one of these names is first used: ``lightning`` if it is installed, else
``pytorch_lightning``. Train with ``milepost.train.torch.TorchTrainer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.lightning.callback import RayTrainReportCallback
    from milepost.train.lightning.environment import RayLightningEnvironment
    from milepost.train.lightning.preparing import prepare_trainer
    from milepost.train.lightning.strategies import (
        RayDDPStrategy,
        RayDeepSpeedStrategy,
        RayFSDPStrategy,
    )

__all__ = [
    "RayDDPStrategy",
    "RayDeepSpeedStrategy",
    "RayFSDPStrategy",
    "RayLightningEnvironment",
    "RayTrainReportCallback",
    "prepare_trainer",
]

_HERE = "milepost.train.lightning"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "RayDDPStrategy": f"{_HERE}.strategies",
        "RayDeepSpeedStrategy": f"{_HERE}.strategies",
        "RayFSDPStrategy": f"{_HERE}.strategies",
        "RayLightningEnvironment": f"{_HERE}.environment",
        "RayTrainReportCallback": f"{_HERE}.callback",
        "prepare_trainer": f"{_HERE}.preparing",
    },
)
