"""Experiments and trials, under Ray's package name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.experiment.experiment import Experiment

_ORIGIN = {
    "Experiment": "milepost.tune.experiment.experiment",
    "Trial": "milepost.control.facade",
}
_PARTS = ("experiment", "trial")

__all__ = ["Experiment", "Trial"]


__getattr__, __dir__ = attributes(__name__, _ORIGIN, _PARTS)
