"""Schedulers: what pauses and stops trials by their results."""

from __future__ import annotations

from milepost.api.scheduler import TrialScheduler
from milepost.tune.schedulers import trial_scheduler
from milepost.tune.schedulers.create import create_scheduler
from milepost.tune.schedulers.fifo import FIFOScheduler

__all__ = ["FIFOScheduler", "TrialScheduler", "create_scheduler", "trial_scheduler"]
