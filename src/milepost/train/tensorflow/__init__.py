"""Training with TensorFlow, with the API of ``ray.train.tensorflow``.

TensorFlow is imported by what needs it, when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.train.tensorflow.checkpoint import TensorflowCheckpoint
    from milepost.train.tensorflow.config import TensorflowConfig
    from milepost.train.tensorflow.tensorflow_trainer import TensorflowTrainer

__all__ = ["TensorflowCheckpoint", "TensorflowConfig", "TensorflowTrainer"]

_HERE = "milepost.train.tensorflow"

__getattr__, __dir__ = attributes(
    __name__,
    {
        "TensorflowCheckpoint": f"{_HERE}.checkpoint",
        "TensorflowConfig": f"{_HERE}.config",
        "TensorflowTrainer": f"{_HERE}.tensorflow_trainer",
    },
    ("keras",),
    {"prepare_dataset_shard": "It is for datasets of Ray Data, which are not here yet."},
)
