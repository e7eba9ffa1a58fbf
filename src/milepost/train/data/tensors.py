"""Batches of PyTorch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from milepost.train.data import columns
from milepost.train.torch.library import pytorch

if TYPE_CHECKING:
    import torch

    from milepost.train.data.columns import Columns
    from milepost.train.data.sources import Source


def collated(samples: Sequence[Any]) -> Any:
    """Return samples of a dataset of PyTorch as a batch, as its loaders do it."""
    from torch.utils.data import default_collate

    return default_collate(list(samples))


def converter(
    source: Source,
    dtypes: torch.dtype | dict[Any, torch.dtype] | None,
    collate: Callable[[Any], Any] | None,
) -> Callable[[Sequence[Any]], Any]:
    """Return a function that makes a batch of items.

    Args:
        source: where their rows come from.
        dtypes: of all tensors, or of columns by name; None leaves them.
        collate: makes the batch of what the rows are: a dict of arrays, or for a dataset of
            PyTorch a list of samples.

    Raises:
        TypeError: what is given as dtypes is none.
    """
    import torch

    for each in dtypes.values() if isinstance(dtypes, dict) else (dtypes,):
        if each is not None and not isinstance(each, torch.dtype):
            raise TypeError(
                "iter_torch_batches().dtypes must be a torch.dtype, or a dict of them by column, "
                f"got {each!r} ({type(each).__name__}). Write torch.float32, for example."
            )

    def batch(items: Sequence[Any]) -> Any:
        if source.collates:
            samples = list(source.rows(items))
            return collate(samples) if collate else cast(collated(samples), dtypes)
        arrays = source.columns(items)
        return collate(arrays) if collate else cast(_tensors(arrays), dtypes)

    return batch


def placer(device: Any) -> Callable[[Any], Any]:
    """Return a function that moves a batch to a device.

    Args:
        device: what ``torch.device`` takes, a device, or ``"auto"`` for that of this worker.
    """
    torch = pytorch()
    from milepost.train.torch.devices import get_device
    from milepost.train.torch.transfer import moved

    place = get_device() if device == "auto" else torch.device(device)
    return lambda batch: moved(batch, place)


def cast(batch: Any, dtypes: torch.dtype | dict[Any, torch.dtype] | None) -> Any:
    """Return a batch with its tensors as other dtypes.

    Raises:
        ValueError: dtypes are by name, and the batch has no such column.
    """
    if dtypes is None:
        return batch
    if isinstance(dtypes, dict):
        if not isinstance(batch, Mapping):
            raise ValueError(
                f"dtypes={dtypes!r} are by column, but samples are of type "
                f"{type(batch).__name__}, without names. Give one dtype, or a collate_fn."
            )
        columns.require_known(dtypes, batch)
        return {key: cast(value, dtypes.get(key)) for key, value in batch.items()}
    if hasattr(batch, "detach"):
        return batch.to(dtypes)
    if isinstance(batch, Mapping):
        return {key: cast(value, dtypes) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        members = [cast(each, dtypes) for each in batch]
        return type(batch)(*members) if hasattr(batch, "_fields") else type(batch)(members)
    return batch


def _tensors(arrays: Columns) -> dict[Any, torch.Tensor]:
    torch = pytorch()
    made = {}
    for key, array in arrays.items():
        try:
            made[key] = torch.as_tensor(array)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"the column {key!r} holds {_content(array)}, which no tensor can hold. Leave it "
                "out of the dataset, or make the batch with collate_fn."
            ) from error
    return made


def _content(array: Any) -> str:
    if array.dtype == object and len(array):
        return f"{type(array[0]).__name__}s"
    return f"values of type {array.dtype}"
