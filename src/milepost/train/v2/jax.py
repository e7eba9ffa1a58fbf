"""Training with JAX, under Ray's module name."""

from __future__ import annotations

from milepost.train.jax.config import JaxConfig
from milepost.train.jax.jax_trainer import JaxTrainer

__all__ = ["JaxConfig", "JaxTrainer"]
