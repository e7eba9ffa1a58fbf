"""Hooks into a training run, and what they are told of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.api.training.backend import BackendConfig
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.run_config import RunConfig
    from milepost.api.training.scaling_config import ScalingConfig
    from milepost.checkpoint.handle import Checkpoint


@dataclass(frozen=True)
class TrainRunContext:
    """A training run, as callbacks see it. Mirrors Ray's class of the same name.

    Attributes:
        run_config: where results go, and what is kept.
        train_loop_config: what the training function is given; None if nothing.
        scaling_config: how many workers there are, and what each has.
        backend_config: how they find each other.
        dataset_config: how datasets are split among them.
        run_id: 32 hexadecimal digits, other ones for each run.
    """

    run_config: RunConfig
    train_loop_config: dict[str, Any] | None
    scaling_config: ScalingConfig
    backend_config: BackendConfig
    dataset_config: DataConfig
    run_id: str = field(init=False, default_factory=lambda: uuid.uuid4().hex)

    def get_run_config(self) -> RunConfig:
        """Return ``run_config``."""
        return self.run_config


class UserCallback:
    """Is told what happens in a training run. Mirrors ``ray.train.UserCallback``.

    Override any hook; they are called in the driver process. An exception in one ends the run with
    a ``ControllerError``; it is not tried again.

    Example:
        >>> class Losses(UserCallback):
        ...     def after_report(self, run_context, metrics, checkpoint):
        ...         print(run_context.run_id, [worker["loss"] for worker in metrics])
        >>> from milepost.train import RunConfig
        >>> len(RunConfig(callbacks=[Losses()]).callbacks)
        1
    """

    def after_report(
        self,
        run_context: TrainRunContext,
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        """Called when all workers have made a report, and its checkpoint is committed.

        Args:
            run_context: the run.
            metrics: what each worker reported, by world rank.
            checkpoint: the committed checkpoint; None if no worker reported one.
        """

    def after_exception(
        self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]
    ) -> None:
        """Called when workers failed, before it is decided whether they start again.

        Args:
            run_context: the run.
            worker_exceptions: their exceptions, by world rank.
        """
