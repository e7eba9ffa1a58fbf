"""Training with PyTorch, which is imported by workers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.torch.config import TorchConfig

__all__ = ["TorchConfig"]

__getattr__, __dir__ = attributes(__name__, {"TorchConfig": "milepost.train.torch.config"})
