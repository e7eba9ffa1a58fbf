"""Making a scheduler by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from milepost.api.available import require_scheduler_name
from milepost.api.scheduler import TrialScheduler
from milepost.tune.named import accepted_arguments

_NAMED = {
    "fifo": "FIFOScheduler",
    "async_hyperband": "AsyncHyperBandScheduler",
    "asynchyperband": "AsyncHyperBandScheduler",
    "median_stopping_rule": "MedianStoppingRule",
    "medianstopping": "MedianStoppingRule",
    "hyperband": "HyperBandScheduler",
    "hb_bohb": "HyperBandForBOHB",
    "pbt": "PopulationBasedTraining",
    "pbt_replay": "PopulationBasedTrainingReplay",
    "pb2": "PB2",
    "resource_changing": "ResourceChangingScheduler",
}

_PACKAGE: Final = "milepost.tune.schedulers"
_MODULES: Final = {"PB2": f"{_PACKAGE}.pb2"}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """Return a scheduler by name. Mirrors ``ray.tune.create_scheduler``.

    Args:
        scheduler: ``"fifo"``, ``"async_hyperband"``, ``"median_stopping_rule"``, ``"hyperband"``,
            ``"hb_bohb"``, ``"pbt"``, ``"pbt_replay"``, ``"pb2"`` or ``"resource_changing"``,
            in any case.
        **kwargs: its arguments; those it does not know are left out, with a line in the log.

    Raises:
        ValueError: this version has no scheduler of that name.
    """
    name = _NAMED[require_scheduler_name(scheduler)]
    kind: type[TrialScheduler] = getattr(import_module(_MODULES.get(name, _PACKAGE)), name)
    return kind(**accepted_arguments(kind, kwargs))
