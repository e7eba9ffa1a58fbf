"""Experiments and trials, under Ray's package name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.api.available import missing

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.experiment.experiment import Experiment

_ORIGIN = {
    "Experiment": "milepost.tune.experiment.experiment",
    "Trial": "milepost.control.facade",
}
_PARTS = ("experiment", "trial")

__all__ = ["Experiment", "Trial"]


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
