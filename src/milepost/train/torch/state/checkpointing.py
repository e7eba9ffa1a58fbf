"""Calls of PyTorch Distributed Checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException

from milepost.train.torch.state.ranks import position


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call ``save`` or ``load`` in all ranks, or in the one process that there is.

    Raises:
        Exception: what was raised in the lowest rank that failed, with its number as a note.
    """
    alone = position()[1] == 1
    try:
        with warnings.catch_warnings():
            # That there is no process group is what we mean.
            warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable")
            function(*args, no_dist=alone, **kwargs)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if not isinstance(cause, Exception):
            raise
        cause.add_note(f"raised in rank {rank}")
        raise cause from error
