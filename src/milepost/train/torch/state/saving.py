"""Writing a state."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

from milepost.train.torch.state import checkpointing
from milepost.train.torch.state.index import NAME, Node
from milepost.train.torch.state.ranks import agreed, position, require_group, together
from milepost.train.torch.state.storage import Writer
from milepost.train.torch.state.tree import Description, described


def save(state: dict[str, Any], directory: str) -> None:
    """Write this rank's part of a state; see ``milepost.train.torch.save_state``."""
    require_group()

    def prepared() -> tuple[Node, Description]:
        _require_unused(directory)
        return described(state)

    tree, description = together(prepared, "save_state()")
    tree = agreed(tree, description.facts)
    checkpointing.call(
        dcp.save,
        description.tensors,
        storage_writer=Writer(directory, *position(), tree),
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
                f"{os.path.join(directory, name)} is there: save_state() was called with this "
                "directory before. Use a new one for each checkpoint."
            )
