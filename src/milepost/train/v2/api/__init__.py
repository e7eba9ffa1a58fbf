"""Ray's module names for trainers."""

from __future__ import annotations

from milepost.api.lazy import attributes

_PARTS = ("data_parallel_trainer",)

__getattr__, __dir__ = attributes(__name__, {}, _PARTS)
