"""The communicator of XGBoost that a training function finds set up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from milepost.train import collective
from milepost.train.context import current
from milepost.tune.integration.reporting import library

#: Where workers of one machine meet; nobody else can.
_HOST = "127.0.0.1"
#: The first version whose tracker hands out arguments; older ones set environment variables.
_OLDEST = (2, 1)


@contextlib.contextmanager
def communicator() -> Iterator[None]:
    """Have XGBoost's collective among the workers for a while; ranks are those of the run.

    Each attempt has a tracker of its own, in the process of rank 0.

    Raises:
        ImportError: XGBoost is not installed, or too old.
    """
    context = current("milepost.train.xgboost.communicator")
    xgboost = _xgboost()
    tracker = None
    if context.world_rank == 0:
        tracker = xgboost.tracker.RabitTracker(
            n_workers=context.world_size, host_ip=_HOST, sortby="task"
        )
        tracker.start()
    where: dict[str, Any] = {} if tracker is None else tracker.worker_args()
    where = collective.shared(where, "the start of training")
    # The tracker sorts these as text; so the order is that of ranks.
    task = f"{context.world_rank:08}"
    entered = xgboost.collective.CommunicatorContext(**where, dmlc_task_id=task)
    entered.__enter__()
    over = False
    try:
        yield
        over = True
    finally:
        # With an error the process ends anyway, and leaving could wait for workers that hang.
        if over or context.world_size == 1:
            entered.__exit__(None, None, None)
            if tracker is not None:
                tracker.wait_for()
        elif tracker is not None:
            _abandon(tracker)


def _abandon(tracker: Any) -> None:
    """Stop a tracker whose workers have not left; it complains of them, also when collected."""
    with contextlib.suppress(Exception):
        tracker.free()


def _xgboost() -> Any:
    """Import XGBoost, with the parts used here.

    Raises:
        ImportError: it is not installed, or too old.
    """
    xgboost = library("xgboost")
    version = tuple(int(part) for part in xgboost.__version__.split(".")[:2])
    if version < _OLDEST:
        raise ImportError(
            f"XGBoostTrainer needs XGBoost 2.1 or newer, found {xgboost.__version__}: run "
            "`pip install -U xgboost`."
        )
    library("xgboost.tracker", "xgboost")
    library("xgboost.collective", "xgboost")
    return xgboost
