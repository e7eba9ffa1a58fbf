"""How LightGBM's workers find each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from milepost.api.config import Config, checked
from milepost.api.training.backend import BackendConfig


@checked
@dataclass
class LightGBMConfig(BackendConfig, Config):
    """How LightGBM's network is made. Mirrors Ray's class; there is nothing to choose.

    Example:
        >>> LightGBMConfig().framework
        'lightgbm'
    """

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context in which workers know the addresses of all."""
        from milepost.train.lightgbm.network import network

        return network

    @property
    def framework(self) -> str:
        """``"lightgbm"``."""
        return "lightgbm"
