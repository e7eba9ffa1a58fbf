"""Checkpoints with a model of LightGBM."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from milepost.train.framework_checkpoint import FrameworkCheckpoint
from milepost.tune.integration.reporting import library

if TYPE_CHECKING:
    import lightgbm


class LightGBMCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a booster in ``model.txt``. Mirrors ``ray.train.lightgbm``'s class."""

    MODEL_FILENAME = "model.txt"

    @classmethod
    def from_model(cls, booster: lightgbm.Booster) -> Self:
        """Return a checkpoint with a model in it.

        Args:
            booster: the model.
        """
        return cls._made(lambda path: booster.save_model(os.path.join(path, cls.MODEL_FILENAME)))

    def get_model(self) -> lightgbm.Booster:
        """Return the model.

        Raises:
            FileNotFoundError: there is no ``model.txt``.
            ImportError: LightGBM is not installed.
        """
        lightgbm: Any = library("lightgbm")
        with self._file(self.MODEL_FILENAME) as path:
            return lightgbm.Booster(model_file=path)
