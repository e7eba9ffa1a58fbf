"""Who a worker is, as Lightning asks it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.train.context import get_context
from milepost.tune.integration._pytorch_lightning import lightning

if TYPE_CHECKING:
    _Base: Any = object
else:
    _Base = import_module(f"{lightning().__name__}.plugins.environments").LightningEnvironment


class RayLightningEnvironment(_Base):  # type: ignore[misc]
    """Has Lightning take over the workers that there are. Mirrors Ray's class.

    Pass an object of it in ``Trainer(plugins=[...])``. Ranks and sizes are those of the training
    worker; Lightning starts no processes and sets no ranks.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """True: the trainer has started all workers."""
        return True

    def world_size(self) -> int:
        """How many workers train."""
        return get_context().get_world_size()

    def global_rank(self) -> int:
        """This worker's number among all, from 0."""
        return get_context().get_world_rank()

    def local_rank(self) -> int:
        """This worker's number among those on its machine, from 0."""
        return get_context().get_local_rank()

    def node_rank(self) -> int:
        """This machine's number among those that train, from 0."""
        return get_context().get_node_rank()

    def set_world_size(self, size: int) -> None:
        """Do nothing: the size is known.

        Args:
            size: what Lightning thinks it is.
        """

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the rank is known.

        Args:
            rank: what Lightning thinks it is.
        """

    def teardown(self) -> None:
        """Do nothing: the process group is the trainer's."""
