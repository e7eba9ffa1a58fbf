"""Functions around tuning, under Ray's module name."""

from __future__ import annotations

from milepost.tune.utils.diagnose import diagnose_serialization
from milepost.tune.utils.gpu import wait_for_gpu
from milepost.tune.utils.monitor import UtilMonitor
from milepost.tune.utils.save_restore import validate_save_restore
from milepost.tune.utils.timing import date_str, warn_if_slow

__all__ = [
    "UtilMonitor",
    "date_str",
    "diagnose_serialization",
    "validate_save_restore",
    "wait_for_gpu",
    "warn_if_slow",
]
