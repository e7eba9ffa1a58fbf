"""Making a scheduler by its name."""

from __future__ import annotations

from typing import Any

from milepost.api.scheduler import TrialScheduler
from milepost.api.spelling import did_you_mean
from milepost.tune.named import accepted_arguments
from milepost.tune.schedulers.fifo import FIFOScheduler

_NAMED = {"fifo": FIFOScheduler}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """Return a scheduler by name. Mirrors ``ray.tune.create_scheduler``.

    Args:
        scheduler: ``"fifo"``, in any case.
        **kwargs: its arguments; those it does not know are left out, with a line in the log.

    Raises:
        ValueError: this version has no scheduler of that name.
    """
    kind = _NAMED.get(str(scheduler).lower())
    if kind is None:
        raise ValueError(
            f"There is no scheduler {scheduler!r} in this version of Milepost."
            + did_you_mean(str(scheduler).lower(), _NAMED)
            + " Any object that derives from milepost.tune.schedulers.TrialScheduler can be passed "
            "to TuneConfig(scheduler=...) instead."
        )
    return kind(**accepted_arguments(kind, kwargs))
