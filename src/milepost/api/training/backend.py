"""How the workers of a training run find each other."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar


class Backend:
    """Sets workers up before the training function runs. Mirrors ``ray.train.backend.Backend``.

    Override any hook.
    """

    #: Whether each worker sees the GPUs of all workers on its machine.
    share_cuda_visible_devices: ClassVar[bool] = False
    #: Whether workers can be replaced a few at a time, while the others go on.
    has_replica_groups: ClassVar[bool] = False

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Called when all workers have started."""

    def on_training_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Called before workers run the training function."""

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Called before workers are ended."""


class BackendConfig:
    """Settings of a :class:`Backend`. Mirrors ``ray.train.BackendConfig``.

    Subclasses are usually dataclasses.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that sets workers up; one that has nothing to do, unless overridden."""
        return Backend

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """Makes the context that the training function runs in; an empty one by default."""
        return contextlib.nullcontext

    @property
    def framework(self) -> str | None:
        """The library that workers train with, such as ``"torch"``; None if none is meant."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a dataclass; those of other classes are not known."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
