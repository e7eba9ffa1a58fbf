"""Schedulers: what pauses and stops trials by their results.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.api.scheduler import TrialScheduler
    from milepost.tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
    from milepost.tune.schedulers.create import create_scheduler
    from milepost.tune.schedulers.fifo import FIFOScheduler
    from milepost.tune.schedulers.hb_bohb import HyperBandForBOHB
    from milepost.tune.schedulers.hyperband import HyperBandScheduler
    from milepost.tune.schedulers.median_stopping_rule import MedianStoppingRule
    from milepost.tune.schedulers.pbt import PopulationBasedTraining
    from milepost.tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
    from milepost.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

_ORIGIN = {
    "ASHAScheduler": "milepost.tune.schedulers.async_hyperband",
    "AsyncHyperBandScheduler": "milepost.tune.schedulers.async_hyperband",
    "FIFOScheduler": "milepost.tune.schedulers.fifo",
    "HyperBandForBOHB": "milepost.tune.schedulers.hb_bohb",
    "HyperBandScheduler": "milepost.tune.schedulers.hyperband",
    "MedianStoppingRule": "milepost.tune.schedulers.median_stopping_rule",
    "PopulationBasedTraining": "milepost.tune.schedulers.pbt",
    "PopulationBasedTrainingReplay": "milepost.tune.schedulers.pbt_replay",
    "ResourceChangingScheduler": "milepost.tune.schedulers.resource_changing_scheduler",
    "TrialScheduler": "milepost.api.scheduler",
    "create_scheduler": "milepost.tune.schedulers.create",
}
_ADVICE = {"PB2": "Write `from milepost.tune.schedulers.pb2 import PB2`."}
_PARTS = (
    "async_hyperband",
    "hb_bohb",
    "hyperband",
    "median_stopping_rule",
    "pb2",
    "pbt",
    "pbt_replay",
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
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]


__getattr__, __dir__ = attributes(__name__, _ORIGIN, _PARTS, _ADVICE)
