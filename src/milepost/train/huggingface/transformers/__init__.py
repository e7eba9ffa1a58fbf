"""Transformers in training workers, with the API of ``ray.train.huggingface.transformers``.

Transformers is imported when one of these names is first used. Train with
``milepost.train.torch.TorchTrainer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.huggingface.transformers.callback import RayTrainReportCallback
    from milepost.train.huggingface.transformers.preparing import prepare_trainer

__all__ = ["RayTrainReportCallback", "prepare_trainer"]

_HERE = "milepost.train.huggingface.transformers"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "RayTrainReportCallback": f"{_HERE}.callback",
        "prepare_trainer": f"{_HERE}.preparing",
    },
)
