"""Batches on their way to a worker's device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from milepost.train.torch.reproducibility import seed_of_run


class PreparedLoader(DataLoader):  # type: ignore[misc]
    """A loader of batches on a device; in all else the loader that it is made of.

    Args:
        loader: where batches come from.
        device: where they go; None leaves them where they are.
        ahead: on a GPU, whether to copy the next batch while the current one is used.
        rank: this worker's number, from 0, on which seeds of the loader's workers depend.
    """

    def __init__(
        self, loader: DataLoader, device: torch.device | None, ahead: bool, rank: int
    ) -> None:
        seed = seed_of_run()
        if seed is not None and loader.generator is None:
            loader.generator = torch.Generator()
        else:
            seed = None
        self.__dict__.update(_loader=loader, _device=device, _ahead=ahead, _rank=rank, _seed=seed)
        self._reseed(0)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration be that of an epoch: its order of samples, its seeds.

        Args:
            epoch: its number, from 0.
        """
        batches = self._loader.batch_sampler
        inner = getattr(batches, "sampler", None)
        told: tuple[Any, ...] = (self._loader.dataset, self._loader.sampler, batches, inner)
        for one in told:
            if hasattr(one, "set_epoch"):
                one.set_epoch(epoch)
        self._reseed(epoch)

    def _reseed(self, epoch: int) -> None:
        if self._seed is not None:
            # Spread, so that no two of (seed, rank, epoch) meet in one number.
            mixed = (self._seed * 1_000_003 + self._rank) * 1_000_003 + epoch
            self._loader.generator.manual_seed(mixed % 2**63)

    def __iter__(self) -> Iterator[Any]:
        if self._device is None:
            return iter(self._loader)
        if self._device.type == "cuda" and self._ahead:
            return self._one_ahead()
        return (moved(batch, self._device) for batch in self._loader)

    def _one_ahead(self) -> Iterator[Any]:
        stream = torch.cuda.Stream(self._device)
        waiting = None
        for batch in self._loader:
            with torch.cuda.stream(stream):
                there = moved(batch, self._device, non_blocking=True)
                copied = stream.record_event()
            if waiting is not None:
                yield _arrived(*waiting)
            waiting = there, copied
        if waiting is not None:
            yield _arrived(*waiting)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        if "_loader" not in vars(self):  # copies ask before there is anything
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


def moved(batch: Any, device: torch.device, non_blocking: bool = False) -> Any:
    """Return a batch with everything in it on a device.

    Args:
        batch: tensors and other objects with a method ``to``, in dicts, lists and tuples at any
            depth. What is none of these stays as it is.
        device: where to.
        non_blocking: whether copies from pinned memory may still be under way.
    """
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, dict):
        items = {key: moved(item, device, non_blocking) for key, item in batch.items()}
        return items if type(batch) is dict else _like(batch, items)
    if isinstance(batch, (list, tuple)):
        members = [moved(item, device, non_blocking) for item in batch]
        if hasattr(batch, "_fields"):
            return type(batch)(*members)
        return members if type(batch) is list else type(batch)(members)
    return batch


def _like(batch: dict[Any, Any], items: dict[Any, Any]) -> Any:
    """A dict of a class of its own, such as one with defaults, with other values."""
    import copy

    made = copy.copy(batch)
    made.update(items)
    return made


def _arrived(batch: Any, copied: torch.cuda.Event) -> Any:
    """A batch that the current stream may use."""
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    _keep(batch, current)
    return batch


def _keep(batch: Any, stream: torch.cuda.Stream) -> None:
    """Have the memory of a batch reused only after a stream is done with it."""
    if isinstance(batch, torch.Tensor) and batch.is_cuda:
        batch.record_stream(stream)
    elif isinstance(batch, dict):
        for item in batch.values():
            _keep(item, stream)
    elif isinstance(batch, (list, tuple)):
        for item in batch:
            _keep(item, stream)
