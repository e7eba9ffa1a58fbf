"""The check that a trainer of Lightning fits into training workers."""

from __future__ import annotations

from typing import Any

from milepost.train.lightning.environment import RayLightningEnvironment
from milepost.train.lightning.strategies import (
    RayDDPStrategy,
    RayDeepSpeedStrategy,
    RayFSDPStrategy,
)

_STRATEGIES = (RayDDPStrategy, RayFSDPStrategy, RayDeepSpeedStrategy)


def prepare_trainer(trainer: Any) -> Any:
    """Make sure that a ``lightning.pytorch.Trainer`` uses the workers that there are.

    Mirrors ``ray.train.lightning.prepare_trainer``.

    Args:
        trainer: it is not changed.

    Returns:
        The trainer.

    Raises:
        RuntimeError: its strategy or its environment is one that starts processes itself.
    """
    if not isinstance(trainer.strategy, _STRATEGIES):
        names = ", ".join(f"{kind.__name__}()" for kind in _STRATEGIES)
        raise RuntimeError(
            f"This Trainer has the strategy {type(trainer.strategy).__name__}, which knows nothing "
            f"of the other workers. Pass Trainer(strategy=...) one of {names}."
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, RayLightningEnvironment):
        raise RuntimeError(
            f"This Trainer has the environment {type(environment).__name__}, which would start "
            "processes of its own. Pass Trainer(plugins=[RayLightningEnvironment()])."
        )
    return trainer
