"""Filling a state."""

from __future__ import annotations

from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

from milepost.train.torch.state import checkpointing, index
from milepost.train.torch.state.filling import Filling
from milepost.train.torch.state.index import Index
from milepost.train.torch.state.ranks import together
from milepost.train.torch.state.storage import Reader
from milepost.train.torch.state.tree import require_names

_SHOWN = 8


def load(state: dict[str, Any], directory: str) -> None:
    """Fill a state from a directory; see ``milepost.train.torch.load_state``."""

    def prepared() -> tuple[Index, Filling]:
        require_names(state, "load_state")
        found = index.read(directory)
        filling = Filling(state, found)
        if filling.problems:
            shown = "".join(f"\n- {one}" for one in filling.problems[:_SHOWN])
            more = len(filling.problems) - _SHOWN
            shown += f"\n- and {more} more" if more > 0 else ""
            raise ValueError(f"The state in {directory} does not fit; nothing was loaded:{shown}")
        return found, filling

    found, filling = together(prepared, "load_state()")
    checkpointing.call(
        dcp.load,
        filling.targets,
        storage_reader=Reader(directory, found),
        planner=DefaultLoadPlanner(flatten_state_dict=False),
    )
    together(filling.finish, "load_state()")
