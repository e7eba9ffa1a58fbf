"""What all workers of a training run do together. Mirrors ``ray.train.collective``.

These calls are for small things at rare moments: they go through the run's controller. Tensors are
exchanged by the framework that one trains with.
"""

from __future__ import annotations

import pickle
from typing import TypeVar

from milepost.train.context import current

__all__ = ["barrier", "broadcast_from_rank_zero"]

T = TypeVar("T")


def barrier() -> None:
    """Wait until all workers have called this.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        CollectiveError: another worker does something else, has ended, or was waited for too long.
    """
    current("milepost.train.collective.barrier")
    shared(None, "train.collective.barrier()")


def broadcast_from_rank_zero(data: T) -> T:
    """Wait until all workers have called this, and return what the worker of rank 0 has given.

    Args:
        data: something that can be pickled, and better is small; that of other ranks is ignored.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        TypeError: rank 0's cannot be pickled.
        CollectiveError: another worker does something else, has ended, or was waited for too long.
    """
    current("milepost.train.collective.broadcast_from_rank_zero")
    return shared(data, "train.collective.broadcast_from_rank_zero()")


def shared(data: T, what: str) -> T:
    """Return what rank 0 has given, when all workers have called this.

    Args:
        data: of this worker.
        what: the call, as users know it.
    """
    from milepost.worker import session
    from milepost.worker.protocol import Meet, dump, load
    from milepost.worker.trial_session import TrialEnded

    trial, dialog = session.current_trial(), session.current_dialog()
    assert trial is not None
    assert dialog is not None
    if trial.world_size == 1:
        return data
    brought = b""
    if trial.rank == 0:
        try:
            brought = dump(data)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise TypeError(
                f"{what} hands on what can be pickled, got {type(data).__name__}: {error}"
            ) from error
    met = dialog.meet(Meet(what, brought))
    if met is None:
        raise TrialEnded
    return data if trial.rank == 0 else load(met.data)
