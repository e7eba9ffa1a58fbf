"""How TensorFlow's workers find each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from milepost.api.config import Config, checked
from milepost.api.training.backend import BackendConfig


@checked
@dataclass
class TensorflowConfig(BackendConfig, Config):
    """How TensorFlow's cluster is made. Mirrors Ray's class; there is nothing to choose.

    Example:
        >>> TensorflowConfig().framework
        'tensorflow'
    """

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context in which the environment describes the cluster."""
        from milepost.train.tensorflow.cluster import cluster

        return cluster

    @property
    def framework(self) -> str:
        """``"tensorflow"``."""
        return "tensorflow"
