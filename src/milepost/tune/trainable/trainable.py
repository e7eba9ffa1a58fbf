"""The class API, under Ray's module name."""

from __future__ import annotations

from milepost.worker.trainable import Trainable

__all__ = ["Trainable"]
