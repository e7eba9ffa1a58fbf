"""Training with PyTorch, which is imported by workers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.torch.config import TorchConfig
    from milepost.train.torch.torch_trainer import TorchTrainer

__all__ = ["TorchConfig", "TorchTrainer"]

__getattr__, __dir__ = attributes(
    __name__,
    {
        "TorchConfig": "milepost.train.torch.config",
        "TorchTrainer": "milepost.train.torch.torch_trainer",
    },
)
