"""Stoppers: when trials, or a whole run, stop."""

from __future__ import annotations

from typing import NoReturn

from milepost.api.available import missing
from milepost.api.stopper import Stopper
from milepost.tune.stopper.basic import (
    CombinedStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
)
from milepost.tune.stopper.plateau import ExperimentPlateauStopper, TrialPlateauStopper
from milepost.tune.stopper.timeout import TimeoutStopper

__all__ = [
    "CombinedStopper",
    "ExperimentPlateauStopper",
    "FunctionStopper",
    "MaximumIterationStopper",
    "NoopStopper",
    "Stopper",
    "TimeoutStopper",
    "TrialPlateauStopper",
]


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name, __all__)
