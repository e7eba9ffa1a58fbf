"""Making a scheduler by its name."""

from __future__ import annotations

from typing import Any

from milepost.api.available import require_scheduler_name
from milepost.api.scheduler import TrialScheduler
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
    kind = _NAMED[require_scheduler_name(scheduler)]
    return kind(**accepted_arguments(kind, kwargs))
