"""Trains with LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from milepost.api import checks
from milepost.train.boosting import BoostingOptions, BoostingTrainer
from milepost.train.lightgbm.config import LightGBMConfig


class LightGBMTrainer(BoostingTrainer):
    """Trains with LightGBM. Mirrors ``ray.train.lightgbm.LightGBMTrainer``.

    ``lightgbm.train``, called by all workers with :func:`get_network_params`, each with its share
    of the rows, makes one model of all rows.

    Args:
        train_loop_per_worker: as for :class:`BoostingTrainer`, like all that is not here.
        lightgbm_config: how the network is made.
    """

    _backend_argument: ClassVar[str] = "lightgbm_config"
    _library: ClassVar[str] = "lightgbm"

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        lightgbm_config: LightGBMConfig | None = None,
        **options: Unpack[BoostingOptions],
    ) -> None:
        super().__init__(
            train_loop_per_worker,
            backend_config=checks.instance_of(LightGBMConfig, LightGBMConfig)(
                type(self).__name__, "lightgbm_config", lightgbm_config
            ),
            **options,
        )
