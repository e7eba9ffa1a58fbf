"""What trainers of boosted trees have in common: they refuse what Ray's first version took."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Unpack

from milepost.train.data_parallel_trainer import DataParallelTrainer
from milepost.train.options import TrainerOptions

if TYPE_CHECKING:
    from milepost.api.training.backend import BackendConfig
    from milepost.checkpoint.handle import Checkpoint


class BoostingOptions(TrainerOptions, total=False):
    """Arguments of trainers of boosted trees; the three of its own raise."""

    label_column: str | None
    params: dict[str, Any] | None
    num_boost_round: int | None


class BoostingTrainer(DataParallelTrainer):
    """Trains with a library of boosted trees, whose ``train`` the training function calls.

    Args:
        train_loop_per_worker: as for :class:`DataParallelTrainer`, like all that is not here.
        label_column: raises.
        params: raises.
        num_boost_round: raises.

    Raises:
        DeprecationWarning: one of the last three is given: trainers made the call themselves once.
    """

    #: The module whose ``train`` is to be called.
    _library: ClassVar[str]

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        backend_config: BackendConfig | None = None,
        label_column: str | None = None,
        params: dict[str, Any] | None = None,
        num_boost_round: int | None = None,
        **options: Unpack[TrainerOptions],
    ) -> None:
        refused = {
            "label_column": label_column,
            "params": params,
            "num_boost_round": num_boost_round,
        }
        given = [name for name, value in refused.items() if value is not None]
        if given:
            owner = type(self).__name__
            raise DeprecationWarning(
                f"{owner}({', '.join(given)}) is not there any more. Call "
                f"{self._library}.train(...) in a function, with RayTrainReportCallback() among "
                f"its callbacks, and pass the function: {owner}(train_loop_per_worker)."
            )
        super().__init__(train_loop_per_worker, backend_config=backend_config, **options)

    @classmethod
    def get_model(cls, checkpoint: Checkpoint) -> NoReturn:
        """Refuse: ``RayTrainReportCallback.get_model`` does this.

        Args:
            checkpoint: one with a model.

        Raises:
            DeprecationWarning: always, as Ray does.
        """
        raise DeprecationWarning(
            f"{cls.__name__}.get_model() is not there any more. Call "
            "RayTrainReportCallback.get_model(result.checkpoint)."
        )
