"""How JAX's processes find each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.training.backend import BackendConfig


def _tpu(owner: str, name: str, value: Any) -> bool:
    if checks.boolean(owner, name, value):
        raise ValueError(
            f"{owner}.{name}=True: workers have no TPUs here; only use_gpu=True is possible."
        )
    return False


@checked
@dataclass
class JaxConfig(BackendConfig, Config):
    """How ``jax.distributed`` is set up. Mirrors Ray's class.

    Args:
        use_tpu: raises for True.
        use_gpu: whether workers compute on their GPUs. By default (False) they do on CPUs.

    Raises:
        TypeError: a value is not a bool, or a field is misspelt.
        ValueError: TPUs are asked for.

    Example:
        >>> JaxConfig(use_gpu=True).to_dict()
        {'use_tpu': False, 'use_gpu': True}
    """

    use_tpu: bool = False
    use_gpu: bool = False

    _checks: ClassVar[Mapping[str, FieldCheck]] = {"use_tpu": _tpu, "use_gpu": checks.boolean}

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context in which all workers' devices are one set."""
        from milepost.train.jax.processes import processes

        return functools.partial(processes, self)

    @property
    def framework(self) -> str:
        """``"jax"``."""
        return "jax"
