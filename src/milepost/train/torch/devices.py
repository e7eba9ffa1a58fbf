"""The devices that a training worker has for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.train.context import current
from milepost.train.torch.library import pytorch

if TYPE_CHECKING:
    import torch


def get_device() -> torch.device:
    """Return the device of this training worker. Mirrors ``ray.train.torch.get_device``.

    Returns:
        The first of :func:`get_devices`.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
    """
    return _devices("milepost.train.torch.get_device")[0]


def get_devices() -> list[torch.device]:
    """Return the devices of this training worker. Mirrors ``ray.train.torch.get_devices``.

    Returns:
        Its GPUs, which are all that its process sees; without one it is the CPU.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
    """
    return _devices("milepost.train.torch.get_devices")


def _devices(function: str) -> list[torch.device]:
    current(function)
    torch = pytorch()
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not visible:
        return [torch.device("cpu")]
    return [torch.device("cuda", index) for index in range(visible)]
