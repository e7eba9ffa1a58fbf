"""What a training worker can ask about itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from milepost.errors import SessionMisuseError

if TYPE_CHECKING:
    from milepost.api.checkpoint_config import CheckpointConfig
    from milepost.api.training.validation_config import ValidationTaskConfig
    from milepost.train.data.shards import Shards
    from milepost.worker.storage_context import StorageContext


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a training worker can ask about itself. Mirrors ``ray.train.TrainContext``.

    Ranks and sizes are those of the current attempt; another attempt may have others.
    """

    experiment_name: str
    world_rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int
    storage: StorageContext
    _keeping: CheckpointConfig | None = field(default=None, repr=False)
    _shards: Shards | None = field(default=None, repr=False)
    _validation: ValidationTaskConfig | None = field(default=None, repr=False)

    def get_experiment_name(self) -> str:
        """The run's name, which is its directory's."""
        return self.experiment_name

    def get_world_size(self) -> int:
        """How many workers train."""
        return self.world_size

    def get_world_rank(self) -> int:
        """This worker's number among all, from 0."""
        return self.world_rank

    def get_local_rank(self) -> int:
        """This worker's number among those on its machine, from 0."""
        return self.local_rank

    def get_local_world_size(self) -> int:
        """How many workers train on this machine."""
        return self.local_world_size

    def get_node_rank(self) -> int:
        """This machine's number among those that train, from 0."""
        return self.node_rank

    def get_storage(self) -> StorageContext:
        """Paths of the run in storage."""
        return self.storage

    def get_metadata(self) -> NoReturn:
        """Not part of training workers.

        Raises:
            DeprecationWarning: always, as Ray does.
        """
        raise DeprecationWarning(
            "get_metadata() has nothing to return. Pass such values in train_loop_config."
        )


_current: TrainContext | None = None


@contextlib.contextmanager
def entered(context: TrainContext) -> Iterator[None]:
    """Make this process the training worker that a context describes, for a while."""
    global _current
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before


def current(function: str) -> TrainContext:
    """Return the context of this training worker.

    Args:
        function: what needs it, for the error, such as ``milepost.train.get_context``.

    Raises:
        DeprecationWarning: this is a trial of a ``Tuner``, which has other functions.
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
    """
    if _current is not None:
        return _current
    from milepost.worker.session import in_session

    name = function.rpartition(".")[2]
    if in_session():
        instead = f"milepost.tune.{name}" if name in _OF_TUNE else "the API of milepost.tune"
        raise DeprecationWarning(
            f"{function} does not work in a tuning trial. Use {instead} in a function that "
            "Tuner.fit() runs."
        )
    raise SessionMisuseError(
        f"{function} was called outside a training worker. It has an effect in a training "
        "function that a trainer's fit() runs."
    )


#: What trials have under the same name.
_OF_TUNE = frozenset({"report", "get_checkpoint", "get_context"})


def get_context() -> TrainContext:
    """Return what this training worker can ask about itself. Mirrors ``ray.train.get_context``.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
    """
    return current("milepost.train.get_context")
