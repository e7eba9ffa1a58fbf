"""Functions that scripts use around tuning, under Ray's package name."""

from __future__ import annotations

from milepost.api.nested import (
    deep_update,
    flatten_dict,
    merge_dicts,
    unflatten_dict,
    unflatten_list_dict,
    unflattened_lookup,
)
from milepost.tune.utils import log, util
from milepost.tune.utils.diagnose import diagnose_serialization
from milepost.tune.utils.gpu import wait_for_gpu
from milepost.tune.utils.monitor import UtilMonitor
from milepost.tune.utils.save_restore import validate_save_restore
from milepost.tune.utils.timing import date_str, warn_if_slow

__all__ = [
    "UtilMonitor",
    "date_str",
    "deep_update",
    "diagnose_serialization",
    "flatten_dict",
    "log",
    "merge_dicts",
    "unflatten_dict",
    "unflatten_list_dict",
    "unflattened_lookup",
    "util",
    "validate_save_restore",
    "wait_for_gpu",
    "warn_if_slow",
]
