"""The interface of schedulers and the simplest one, under Ray's module name."""

from __future__ import annotations

from milepost.api.scheduler import TrialScheduler
from milepost.tune.schedulers.fifo import FIFOScheduler

__all__ = ["FIFOScheduler", "TrialScheduler"]
