"""Trains with XGBoost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from milepost.api import checks
from milepost.train.boosting import BoostingOptions, BoostingTrainer
from milepost.train.xgboost.config import XGBoostConfig


class XGBoostTrainer(BoostingTrainer):
    """Trains with XGBoost. Mirrors ``ray.train.xgboost.XGBoostTrainer``.

    The training function finds XGBoost's collective set up: ``xgboost.train``, called by all
    workers, each with its share of the rows, makes one model of all rows.

    Args:
        train_loop_per_worker: as for :class:`BoostingTrainer`, like all that is not here.
        xgboost_config: how the collective is made.
    """

    _backend_argument: ClassVar[str] = "xgboost_config"
    _library: ClassVar[str] = "xgboost"

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        xgboost_config: XGBoostConfig | None = None,
        **options: Unpack[BoostingOptions],
    ) -> None:
        super().__init__(
            train_loop_per_worker,
            backend_config=checks.instance_of(XGBoostConfig, XGBoostConfig)(
                type(self).__name__, "xgboost_config", xgboost_config
            ),
            **options,
        )
