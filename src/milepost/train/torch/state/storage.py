"""How PyTorch Distributed Checkpoint writes and reads a directory of ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from milepost.train.torch.state import index as indices
from milepost.train.torch.state import safetensors
from milepost.train.torch.state.index import Chunk, Index, Node, Stored
from milepost.train.torch.state.safetensors import Layout


class Writer(StorageWriter):  # type: ignore[misc]
    """Writes one file per rank that has anything to write, and the index on rank 0.

    Args:
        directory: this rank's.
        rank: its number, from 0.
        ranks: how many there are.
        tree: what becomes the index's.
        put: writes this rank's file, now or later, to a path.
    """

    def __init__(
        self, directory: str, rank: int, ranks: int, tree: Node, put: Callable[[str, Layout], None]
    ) -> None:
        super().__init__()
        self._directory = directory
        self._rank = rank
        self._ranks = ranks
        self._tree = tree
        self._put = put

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing is kept between calls."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare."""

    def prepare_local_plan(self, plan: Any) -> Any:
        """A rank's plan is right as it is."""
        return plan

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        """So are those of all."""
        return plans

    def write_data(self, plan: Any, planner: Any) -> Future:
        """Hand on this rank's parts, and tell where they are in the file that they make up."""
        items = [item for item in plan.items if 0 not in item.tensor_data.chunk.sizes]
        file = indices.file_of(self._rank, self._ranks)
        layout = safetensors.lay_out([_part(item, planner) for item in items])
        if items:
            self._put(os.path.join(self._directory, file), layout)
        size = layout.size_bytes
        done: Future = Future()
        done.set_result(
            [
                WriteResult(index=item.index, size_in_bytes=size, storage_data=(file, begin))
                for item, begin in zip(items, layout.begins, strict=True)
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: Iterable[list[WriteResult]]) -> None:
        """Write the index, on rank 0, when all ranks have handed on their parts."""
        written = [result for of_rank in results for result in of_rank]
        places = {(r.index.fqn, tuple(r.index.offset)): r.storage_data for r in written}
        tensors = {
            name: Stored(
                dtype=safetensors.NAMES[one.properties.dtype],
                shape=tuple(one.size),
                chunks=tuple(
                    _chunk(part, *places[name, tuple(part.offsets)])
                    for part in one.chunks
                    if 0 not in part.sizes
                ),
            )
            for name, one in metadata.state_dict_metadata.items()
        }
        files = {result.storage_data[0]: result.size_in_bytes for result in written}
        indices.write(Index(self._ranks, files, tensors, self._tree), self._directory)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """It is only made by our own functions."""
        return True


def _part(item: Any, planner: Any) -> safetensors.Part:
    return safetensors.Part(
        name=item.index.fqn,
        dtype=item.tensor_data.properties.dtype,
        shape=tuple(item.tensor_data.chunk.sizes),
        offsets=tuple(item.tensor_data.chunk.offsets),
        read=lambda: planner.resolve_data(item),
    )


def _chunk(part: ChunkStorageMetadata, file: str, at: int) -> Chunk:
    return Chunk(file, at, tuple(part.offsets), tuple(part.sizes))


class Reader(StorageReader):  # type: ignore[misc]
    """Reads the parts of tensors that a rank needs.

    Args:
        directory: one that has the files of all ranks.
        index: its index.
    """

    def __init__(self, directory: str, index: Index) -> None:
        super().__init__()
        self._directory = directory
        self._index = index

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing is kept between calls."""

    def read_metadata(self) -> Metadata:
        """Return where the parts of tensors are."""
        return Metadata({name: _described(one) for name, one in self._index.tensors.items()})

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool) -> None:
        """Nothing to prepare."""

    def prepare_local_plan(self, plan: Any) -> Any:
        """A rank's plan is right as it is."""
        return plan

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        """So are those of all."""
        return plans

    def read_data(self, plan: Any, planner: Any) -> Future:
        """Copy what this rank needs into its tensors."""
        tensors = self._index.tensors.items()
        chunks = {(name, one.offsets): one for name, stored in tensors for one in stored.chunks}
        files: dict[str, Any] = {}
        for item in plan.items:
            stored = self._index.tensors[item.storage_index.fqn]
            chunk = chunks[item.storage_index.fqn, tuple(item.storage_index.offset)]
            if chunk.file not in files:
                files[chunk.file] = safetensors.opened(os.path.join(self._directory, chunk.file))
            source = safetensors.part(files[chunk.file], chunk.at, stored.dtype, chunk.shape)
            for axis, (begin, length) in enumerate(
                zip(item.storage_offsets, item.lengths, strict=True)
            ):
                source = source.narrow(axis, begin, length)
            target = planner.resolve_tensor(item)
            target.detach().copy_(source)
            planner.commit_tensor(item, target)
        done: Future = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """It is only made by our own functions."""
        return True


def _described(stored: Stored) -> TensorStorageMetadata:
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=safetensors.DTYPES[stored.dtype]),
        size=torch.Size(stored.shape),
        chunks=[
            ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.shape))
            for one in stored.chunks
        ],
    )
