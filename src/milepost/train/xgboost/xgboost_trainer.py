"""Trains with XGBoost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Unpack

from milepost.api import checks
from milepost.train import boosting
from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.options import TrainerOptions
from milepost.train.xgboost.config import XGBoostConfig

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint


class XGBoostTrainer(DataParallelTrainer):
    """Trains with XGBoost. Mirrors ``ray.train.xgboost.XGBoostTrainer``.

    The training function finds XGBoost's collective set up: ``xgboost.train``, called by all
    workers, each with its share of the rows, makes one model of all rows.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        xgboost_config: how the collective is made.
        label_column: raises.
        params: raises.
        num_boost_round: raises.

    Raises:
        DeprecationWarning: one of the last three is given.
    """

    _backend_argument: ClassVar[str] = "xgboost_config"

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        xgboost_config: XGBoostConfig | None = None,
        label_column: str | None = None,
        params: dict[str, Any] | None = None,
        num_boost_round: int | None = None,
        **options: Unpack[TrainerOptions],
    ) -> None:
        owner = type(self).__name__
        boosting.refuse_single_call(
            owner,
            "xgboost",
            label_column=label_column,
            params=params,
            num_boost_round=num_boost_round,
        )
        super().__init__(
            train_loop_per_worker,
            backend_config=checks.instance_of(XGBoostConfig, XGBoostConfig)(
                owner, "xgboost_config", xgboost_config
            ),
            **options,
        )

    @classmethod
    def get_model(cls, checkpoint: Checkpoint) -> NoReturn:
        """Refuse: ``RayTrainReportCallback.get_model`` does this.

        Args:
            checkpoint: one with a model.

        Raises:
            DeprecationWarning: always, as Ray does.
        """
        boosting.refuse_get_model(cls.__name__)
