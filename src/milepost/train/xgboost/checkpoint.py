"""Checkpoints with a model of XGBoost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from milepost.train.framework_checkpoint import FrameworkCheckpoint
from milepost.tune.integration.reporting import library

if TYPE_CHECKING:
    import xgboost


class XGBoostCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a booster in ``model.json``. Mirrors ``ray.train.xgboost``'s class.

    Checkpoints of :class:`RayTrainReportCallback` have another file; its ``get_model`` reads them.
    """

    MODEL_FILENAME = "model.json"

    @classmethod
    def from_model(cls, booster: xgboost.Booster) -> Self:
        """Return a checkpoint with a model in it.

        Args:
            booster: the model.
        """
        return cls._made(lambda path: booster.save_model(os.path.join(path, cls.MODEL_FILENAME)))

    def get_model(self) -> xgboost.Booster:
        """Return the model.

        Raises:
            FileNotFoundError: there is no ``model.json``.
            ImportError: XGBoost is not installed.
        """
        booster: Any = library("xgboost").Booster()
        with self._file(self.MODEL_FILENAME) as path:
            booster.load_model(path)
        return booster
