"""Data loaders that give each worker its share, on its device."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from milepost.api.spelling import spelled
from milepost.train.context import TrainContext, current
from milepost.train.torch.dealing import Dealt
from milepost.train.torch.devices import get_device
from milepost.train.torch.library import pytorch

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader


@spelled
def prepare_data_loader(
    data_loader: DataLoader,
    add_dist_sampler: bool = True,
    move_to_device: bool | torch.device = True,
    auto_transfer: bool = True,
) -> DataLoader:
    """Return a loader of this worker's share. Mirrors ``ray.train.torch.prepare_data_loader``.

    Every option of the loader is kept, and so is a subclass; the one that is passed stays as it
    was.

    Args:
        data_loader: a loader of the whole dataset; all workers pass the same one.
        add_dist_sampler: whether each of several workers gets a share. Where samples come in
            order or shuffled, that is a ``DistributedSampler``. What any other sampler or batch
            sampler yields is dealt out in turns. Those that share out themselves (they have
            ``num_replicas``), an ``IterableDataset`` and a split shard of
            ``train.get_dataset_shard`` are left alone.
        move_to_device: whether to move batches to :func:`get_device`'s device, or the device.
            Tensors are moved inside dicts, lists and tuples, and so is everything else that has a
            method ``to``.
        auto_transfer: on a GPU, whether to copy the next batch while the current one is used.

    Returns:
        A ``DataLoader``, whose ``set_epoch(epoch)`` (not in Ray) does all that is needed for
        another order of samples, with one worker as with several; ``loader.sampler.set_epoch`` of
        a ``DistributedSampler`` works as well.

    Raises:
        TypeError: it is no ``DataLoader``.
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        ImportError: PyTorch is not installed.
    """
    context = current("milepost.train.torch.prepare_data_loader")
    pytorch()
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    from milepost.train.torch.transfer import PreparedLoader

    if not isinstance(data_loader, DataLoader):
        raise TypeError(
            "prepare_data_loader() takes a torch.utils.data.DataLoader, got "
            f"{type(data_loader).__name__}. Move batches of anything else to get_device() yourself."
        )
    loader = copy.copy(data_loader)
    vars(loader)["_iterator"] = None  # that of persistent workers belongs to the original
    if (
        add_dist_sampler
        and context.world_size > 1
        and not isinstance(loader.dataset, IterableDataset)
        and not getattr(loader.dataset, "is_split", False)
    ):
        vars(loader).update(_share(loader, context))
    device = None
    if move_to_device:
        device = move_to_device if isinstance(move_to_device, torch.device) else get_device()
    return PreparedLoader(loader, device, auto_transfer, context.world_rank)


def _share(loader: DataLoader, context: TrainContext) -> dict[str, Any]:
    """What differs in a loader of one worker's share."""
    from torch.utils.data import BatchSampler

    batches = loader.batch_sampler
    if hasattr(batches, "num_replicas"):
        return {}
    if batches is None:  # samples are not put together
        return {"sampler": _shared(loader.sampler, context)}
    if type(batches) is not BatchSampler:
        return {"batch_sampler": Dealt(batches, context.world_rank, context.world_size)}
    sampler = _shared(batches.sampler, context)
    return {
        "sampler": sampler,
        "batch_sampler": BatchSampler(sampler, batches.batch_size, batches.drop_last),
    }


def _shared(sampler: Any, context: TrainContext) -> Any:
    """A sampler of one worker's share."""
    from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

    if hasattr(sampler, "num_replicas"):
        return sampler
    shuffled = type(sampler) is RandomSampler and _is_shuffle(sampler)
    if not shuffled and type(sampler) is not SequentialSampler:
        return Dealt(sampler, context.world_rank, context.world_size)
    return DistributedSampler(
        sampler.data_source,
        num_replicas=context.world_size,
        rank=context.world_rank,
        shuffle=shuffled,
    )


def _is_shuffle(sampler: Any) -> bool:
    """Whether every sample comes once."""
    return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
