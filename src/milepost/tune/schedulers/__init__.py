"""Schedulers: what pauses and stops trials by their results."""

from __future__ import annotations

from typing import NoReturn

from milepost.api.available import missing
from milepost.api.scheduler import TrialScheduler
from milepost.tune.schedulers import trial_scheduler
from milepost.tune.schedulers.create import create_scheduler
from milepost.tune.schedulers.fifo import FIFOScheduler

__all__ = ["FIFOScheduler", "TrialScheduler", "create_scheduler", "trial_scheduler"]


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name, set(__all__) - {"trial_scheduler"})
