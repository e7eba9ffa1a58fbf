"""Arguments of trainers: all have the same, and each some of its own."""

from __future__ import annotations

from typing import Any

import pytest

from milepost.train import DataParallelTrainer
from milepost.train.jax import JaxTrainer
from milepost.train.lightgbm import LightGBMTrainer
from milepost.train.options import TrainerOptions
from milepost.train.tensorflow import TensorflowTrainer
from milepost.train.torch import TorchTrainer
from milepost.train.xgboost import XGBoostTrainer

OWN = {
    DataParallelTrainer: "backend_config",
    JaxTrainer: "jax_config",
    LightGBMTrainer: "lightgbm_config",
    TensorflowTrainer: "tensorflow_config",
    TorchTrainer: "torch_config",
    XGBoostTrainer: "xgboost_config",
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", [*TrainerOptions.__annotations__, "own"])
def test_a_misspelt_argument(kind: Any, name: str) -> None:
    """The error names the trainer and the closest argument, whoever takes that."""
    name = OWN[kind] if name == "own" else name
    says = rf"{kind.__name__}\(\) got .*'{name}x'\. Did you mean '{name}'\?"
    with pytest.raises(TypeError, match=says):
        kind(print, **{f"{name}x": None})
