"""Names with a meaning of their own, under Ray's module name."""

from __future__ import annotations

from typing import Final

__all__ = ["TRAIN_DATASET_KEY"]

#: The dataset that workers train on, in a trainer's ``datasets``.
TRAIN_DATASET_KEY: Final = "train"
