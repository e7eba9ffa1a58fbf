"""How PyTorch's workers find each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.training.backend import BackendConfig


def _backend(owner: str, name: str, value: Any) -> str:
    return checks.text(owner, name, value).lower()  # as PyTorch names them


@checked
@dataclass
class TorchConfig(BackendConfig, Config):
    """How a process group of ``torch.distributed`` is made. Mirrors Ray's class.

    Args:
        backend: a backend that PyTorch knows, such as ``"nccl"``, ``"gloo"`` or
            ``"cpu:gloo,cuda:nccl"``. None (the default) leaves it to the trainer: NCCL for workers
            with GPUs, else Gloo.
        init_method: how workers are told where to meet: ``"env"`` (the default), by environment
            variables, or ``"tcp"``, by a URL.
        timeout_s: seconds (or a ``timedelta``) that a collective operation may take; default 1800.

    Raises:
        TypeError: a value has the wrong type, or a field is misspelt.
        ValueError: the method is neither, or the timeout is not positive.

    Example:
        >>> TorchConfig(backend="gloo").to_dict()
        {'backend': 'gloo', 'init_method': 'env', 'timeout_s': 1800}
    """

    backend: str | None = None
    init_method: str = "env"
    timeout_s: float | timedelta = 1800

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "backend": checks.optional(_backend),
        "init_method": checks.one_of("env", "tcp"),
        "timeout_s": checks.seconds,
    }

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context in which workers have their process group."""
        from milepost.train.torch.process_group import process_group

        return functools.partial(process_group, self)

    @property
    def framework(self) -> str:
        """``"torch"``."""
        return "torch"

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
