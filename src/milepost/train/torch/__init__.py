"""Training with PyTorch, with the API of ``ray.train.torch``.

PyTorch is imported by the functions that use it, when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.torch.checkpoint import TorchCheckpoint
    from milepost.train.torch.config import TorchConfig
    from milepost.train.torch.deprecated import accelerate, backward, prepare_optimizer
    from milepost.train.torch.devices import get_device, get_devices
    from milepost.train.torch.loaders import prepare_data_loader
    from milepost.train.torch.models import prepare_model
    from milepost.train.torch.reproducibility import enable_reproducibility
    from milepost.train.torch.state import load_state, save_state, save_state_async
    from milepost.train.torch.torch_trainer import TorchTrainer

__all__ = [
    "TorchCheckpoint",
    "TorchConfig",
    "TorchTrainer",
    "accelerate",
    "backward",
    "enable_reproducibility",
    "get_device",
    "get_devices",
    "load_state",
    "prepare_data_loader",
    "prepare_model",
    "prepare_optimizer",
    "save_state",
    "save_state_async",
]

_HERE = "milepost.train.torch"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "TorchCheckpoint": f"{_HERE}.checkpoint",
        "TorchConfig": f"{_HERE}.config",
        "TorchTrainer": f"{_HERE}.torch_trainer",
        "accelerate": f"{_HERE}.deprecated",
        "backward": f"{_HERE}.deprecated",
        "prepare_optimizer": f"{_HERE}.deprecated",
        "get_device": f"{_HERE}.devices",
        "get_devices": f"{_HERE}.devices",
        "prepare_data_loader": f"{_HERE}.loaders",
        "prepare_model": f"{_HERE}.models",
        "enable_reproducibility": f"{_HERE}.reproducibility",
        "load_state": f"{_HERE}.state",
        "save_state": f"{_HERE}.state",
        "save_state_async": f"{_HERE}.state",
    },
    advice={
        "TorchftConfig": "Replacing single workers with torchft is not part of it: after a "
        "failure all workers start again from the latest checkpoint.",
        "xla": "There are no TPUs here.",
    },
)
