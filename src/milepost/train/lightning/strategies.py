"""Strategies of Lightning for workers that a trainer has started."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.train.context import get_context
from milepost.train.torch.devices import get_device
from milepost.tune.integration._pytorch_lightning import lightning

if TYPE_CHECKING:
    import torch

    _DDP: Any = object
    _FSDP: Any = object
    _DeepSpeed: Any = object
else:
    _strategies = import_module(f"{lightning().__name__}.strategies")
    _DDP = _strategies.DDPStrategy
    _FSDP = _strategies.FSDPStrategy
    _DeepSpeed = _strategies.DeepSpeedStrategy


class _InWorkers:
    """What all strategies have in common: the worker's device, and its share of samples."""

    @property
    def root_device(self) -> torch.device:
        """The device of this training worker, see ``milepost.train.torch.get_device``."""
        return get_device()

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        """What a ``DistributedSampler`` needs to give each worker its share."""
        context = get_context()
        return {"num_replicas": context.get_world_size(), "rank": context.get_world_rank()}


class RayDDPStrategy(_InWorkers, _DDP):  # type: ignore[misc]
    """Each worker has the whole model, gradients are averaged. Mirrors Ray's class.

    Arguments are those of Lightning's ``DDPStrategy``.
    """


class RayFSDPStrategy(_InWorkers, _FSDP):  # type: ignore[misc]
    """Each worker has a part of every parameter, on GPUs. Mirrors Ray's class.

    Arguments are those of Lightning's ``FSDPStrategy``.
    """


class RayDeepSpeedStrategy(_InWorkers, _DeepSpeed):  # type: ignore[misc]
    """Trains with DeepSpeed, on GPUs. Mirrors Ray's class.

    Arguments are those of Lightning's ``DeepSpeedStrategy``, which needs DeepSpeed.
    """
