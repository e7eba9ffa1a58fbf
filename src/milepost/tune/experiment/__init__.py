"""Experiments and trials as scripts see them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.experiment.experiment import Experiment

__all__ = ["Experiment", "Trial"]

_WHERE = {
    "Experiment": "milepost.tune.experiment.experiment",
    "Trial": "milepost.control.facade",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value
