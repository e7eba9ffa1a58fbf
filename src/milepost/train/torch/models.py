"""Models that several workers train together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.spelling import did_you_mean, spelled
from milepost.train.context import current
from milepost.train.torch.devices import get_device
from milepost.train.torch.library import pytorch

if TYPE_CHECKING:
    import torch

_STRATEGIES = ("ddp", "fsdp")


@spelled
def prepare_model(
    model: torch.nn.Module,
    move_to_device: bool | torch.device = True,
    parallel_strategy: str | None = "ddp",
    parallel_strategy_kwargs: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """Return a model that all workers train together. Mirrors ``ray.train.torch.prepare_model``.

    With one worker the model is moved and not wrapped.

    Args:
        model: a module; all workers pass the same one.
        move_to_device: whether to move it to :func:`get_device`'s device, or the device.
        parallel_strategy: ``"ddp"`` (the default) for ``DistributedDataParallel``, where each
            worker has the whole model; ``"fsdp"`` for ``fully_shard`` (FSDP2), where each has a
            part of every parameter; None to leave it as it is. With ``"fsdp"``, modules to which
            ``fully_shard`` was applied before stay units of their own; otherwise the whole
            model is gathered for each pass.
        parallel_strategy_kwargs: arguments for ``DistributedDataParallel`` or ``fully_shard``;
            they replace ours.

    Returns:
        The wrapped model; with ``"fsdp"`` it is the same object. Make the optimizer afterwards:
        its parameters are others then.

    Raises:
        ValueError: the strategy is another one.
        TypeError: ``fully_shard`` has no argument of that name.
        RuntimeError: there are several workers and no process group, or one that cannot reach the
            model's device, or this PyTorch has no ``fully_shard``.
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        ImportError: PyTorch is not installed.
    """
    context = current("milepost.train.torch.prepare_model")
    if parallel_strategy and parallel_strategy not in _STRATEGIES:
        raise ValueError(
            f"prepare_model(parallel_strategy={parallel_strategy!r}): there is no such strategy."
            f"{did_you_mean(parallel_strategy, _STRATEGIES)} None does not wrap the model."
        )
    torch = pytorch()
    device = move_to_device if isinstance(move_to_device, torch.device) else get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # collectives of NCCL use the current device
    if move_to_device:
        model = model.to(device)
    if not parallel_strategy or context.world_size == 1:
        return model
    device = next((one.device for one in model.parameters()), device)
    _require_group(parallel_strategy, context.world_size, device)
    kwargs = dict(parallel_strategy_kwargs or {})
    if parallel_strategy == "fsdp":
        return _sharded(model, device, kwargs)
    if device.type == "cuda":
        kwargs = {"device_ids": [device], "output_device": device} | kwargs
    return torch.nn.parallel.DistributedDataParallel(model, **kwargs)


def _require_group(strategy: str, workers: int, device: torch.device) -> None:
    import torch.distributed as group

    call = f"prepare_model(parallel_strategy={strategy!r}) with {workers} workers"
    if not group.is_available() or not group.is_initialized():
        raise RuntimeError(
            f"{call} needs the process group of torch.distributed, and there is none. Train with "
            "a TorchTrainer, which makes it, or call torch.distributed.init_process_group first."
        )
    if device.type == "cpu" and group.get_backend() == "nccl":
        raise RuntimeError(
            f"{call}: the model is on the CPU, and the process group's backend 'nccl' moves only "
            "what is on GPUs. Use TorchConfig(backend='gloo'), or move the model to a GPU."
        )


def _sharded(
    model: torch.nn.Module, device: torch.device, kwargs: dict[str, Any]
) -> torch.nn.Module:
    import torch
    import torch.distributed as group

    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise RuntimeError(
            "prepare_model(parallel_strategy='fsdp') needs torch.distributed.fsdp.fully_shard, "
            f"which PyTorch {torch.__version__} does not have. Install PyTorch 2.6 or newer, or "
            "use parallel_strategy='ddp'."
        ) from error
    known = [name for name in inspect.signature(fully_shard).parameters if name != "module"]
    for name in kwargs:
        if name not in known:
            raise TypeError(
                f"prepare_model(parallel_strategy_kwargs={{{name!r}: ...}}): fully_shard has no "
                f"such argument.{did_you_mean(name, known)} Those of FullyShardedDataParallel "
                "differ: instead of auto_wrap_policy, call fully_shard(part) for the parts before."
            )
    if "mesh" not in kwargs:
        kwargs["mesh"] = init_device_mesh(device.type, (group.get_world_size(),))
    try:
        return fully_shard(model, **kwargs)
    except (RuntimeError, NotImplementedError) as error:
        error.add_note(
            f"prepare_model(parallel_strategy='fsdp') on {device} with the backend "
            f"{group.get_backend()!r} of PyTorch {torch.__version__}. parallel_strategy='ddp' "
            "needs less of the backend."
        )
        raise
