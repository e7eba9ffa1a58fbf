"""Training with JAX, with the API of ``ray.train.v2.jax``.

JAX is imported in workers, before the training function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.jax.config import JaxConfig
    from milepost.train.jax.jax_trainer import JaxTrainer

__all__ = ["JaxConfig", "JaxTrainer"]

__getattr__, __dir__ = attributes(
    __name__,
    {
        "JaxConfig": "milepost.train.jax.config",
        "JaxTrainer": "milepost.train.jax.jax_trainer",
    },
)
