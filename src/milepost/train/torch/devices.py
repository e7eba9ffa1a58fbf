"""The devices that a training worker has for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.train.context import TrainContext, current
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
    return _devices(current("milepost.train.torch.get_device"))[0]


def get_devices() -> list[torch.device]:
    """Return the devices of this training worker. Mirrors ``ray.train.torch.get_devices``.

    Returns:
        Its GPUs: an equal share, by local rank, of those that this process sees, which are those
        of all workers on the machine. Workers that are more than the GPUs share them. Without a
        visible GPU it is the CPU. There is at least one device.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
    """
    return _devices(current("milepost.train.torch.get_devices"))


def _devices(context: TrainContext) -> list[torch.device]:
    torch = pytorch()
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not visible:
        return [torch.device("cpu")]
    first, after = (
        rank * visible // context.local_world_size
        for rank in (context.local_rank, context.local_rank + 1)
    )
    return [torch.device("cuda", index) for index in range(first, max(after, first + 1))]
