"""Writing a state, while everybody waits or beside the training."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

from milepost.train.torch.state import checkpointing, safetensors
from milepost.train.torch.state.index import NAME, Node
from milepost.train.torch.state.ranks import agreed, position, require_group, together
from milepost.train.torch.state.safetensors import Layout
from milepost.train.torch.state.storage import Writer
from milepost.train.torch.state.tree import Description, described
from milepost.worker import unfinished


def save(state: dict[str, Any], directory: str) -> None:
    """Write this rank's part of a state; see ``milepost.train.torch.save_state``."""
    _save(state, directory, "save_state", safetensors.write)


def save_async(state: dict[str, Any], directory: str) -> Future[None]:
    """Write it later; see ``milepost.train.torch.save_state_async``.

    The thread that does so takes no part in what the ranks do together, for in them it would meet
    the training's.
    """
    snapshots: list[tuple[str, Layout]] = []

    def hold(path: str, layout: Layout) -> None:
        snapshots.append((path, safetensors.snapshot(layout)))

    def write() -> None:
        while snapshots:
            safetensors.write(*snapshots.pop())  # nothing else holds its memory

    _save(state, directory, "save_state_async", hold)
    return unfinished.begin(directory, write)


def _save(
    state: dict[str, Any], directory: str, call: str, put: Callable[[str, Layout], None]
) -> None:
    """What all ranks do together; ``put`` has what this rank writes when it returns."""
    require_group(call)

    def prepared() -> tuple[Node, Description]:
        unfinished.raise_failed()
        _require_unused(directory)
        unfinished.forget(directory)
        return described(state, call)

    tree, description = together(prepared, f"{call}()")
    tree = agreed(tree, description.facts)
    checkpointing.call(
        dcp.save,
        description.tensors,
        storage_writer=Writer(directory, *position(), tree, put),
        # The lowest rank's, also for buffers that differ: all of a module's from one rank.
        planner=DefaultSavePlanner(flatten_state_dict=False, dedup_save_to_lowest_rank=True),
    )


def _require_unused(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    own = f"state-{position()[0]:05d}-"
    for name in os.listdir(directory):
        # Ranks may well write into one directory, and others may be there already.
        if name == NAME or name.startswith(own):
            raise FileExistsError(
                f"{os.path.join(directory, name)} is there: a state was saved in this directory "
                "before. Use a new one for each checkpoint."
            )
