"""How XGBoost's workers find each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.training.backend import BackendConfig


@checked
@dataclass
class XGBoostConfig(BackendConfig, Config):
    """How XGBoost's collective is made. Mirrors Ray's class.

    Args:
        xgboost_communicator: ``"rabit"`` (the default), XGBoost's own; there is no other.

    Raises:
        ValueError: it is another.
        TypeError: a field is misspelt.

    Example:
        >>> XGBoostConfig().to_dict()
        {'xgboost_communicator': 'rabit'}
    """

    xgboost_communicator: str = "rabit"

    _checks: ClassVar[Mapping[str, FieldCheck]] = {"xgboost_communicator": checks.one_of("rabit")}

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context in which workers have their communicator."""
        from milepost.train.xgboost.communicator import communicator

        return communicator

    @property
    def framework(self) -> str:
        """``"xgboost"``."""
        return "xgboost"
