"""Callbacks that report from the training loops of other libraries.

A library is imported when a callback of it is first used.
"""

from __future__ import annotations

from typing import NoReturn

from milepost.api.available import missing

_PARTS = ("keras", "lightgbm", "pytorch_lightning", "ray_train", "xgboost")


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name, _PARTS)
