"""Schedulers: what pauses and stops trials by their results.

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.api.available import missing

if TYPE_CHECKING:
    from milepost.api.scheduler import TrialScheduler
    from milepost.tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
    from milepost.tune.schedulers.create import create_scheduler
    from milepost.tune.schedulers.fifo import FIFOScheduler
    from milepost.tune.schedulers.hb_bohb import HyperBandForBOHB
    from milepost.tune.schedulers.hyperband import HyperBandScheduler
    from milepost.tune.schedulers.median_stopping_rule import MedianStoppingRule
    from milepost.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

_ORIGIN = {
    "ASHAScheduler": "milepost.tune.schedulers.async_hyperband",
    "AsyncHyperBandScheduler": "milepost.tune.schedulers.async_hyperband",
    "FIFOScheduler": "milepost.tune.schedulers.fifo",
    "HyperBandForBOHB": "milepost.tune.schedulers.hb_bohb",
    "HyperBandScheduler": "milepost.tune.schedulers.hyperband",
    "MedianStoppingRule": "milepost.tune.schedulers.median_stopping_rule",
    "ResourceChangingScheduler": "milepost.tune.schedulers.resource_changing_scheduler",
    "TrialScheduler": "milepost.api.scheduler",
    "create_scheduler": "milepost.tune.schedulers.create",
}
_PARTS = (
    "async_hyperband",
    "hb_bohb",
    "hyperband",
    "median_stopping_rule",
    "resource_changing_scheduler",
    "trial_scheduler",
)

__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "FIFOScheduler",
    "HyperBandForBOHB",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise missing(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
