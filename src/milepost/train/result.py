"""What a training run came to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NoReturn

from milepost.tune.results import result


@dataclass(repr=False, eq=False)
class Result(result.Result):  # type: ignore[misc]  # mypy takes descriptors for defaults
    """The outcome of a training run. Mirrors ``ray.train.Result``.

    Args:
        metrics: what rank 0 reported last, with the fields that are filled in. In Ray they are
            those of the latest checkpoint.
        checkpoint: the latest committed checkpoint, or None.
        error: None for a run that ended well; else the exception, or its text.
        path: the run's directory.
        metrics_dataframe: every report, with flat names (``a/b``). In Ray it has a row for each
            checkpoint that was kept.
        best_checkpoints: kept checkpoints with their metrics, the best one last; at most
            ``num_to_keep``. The latest is not among them when others are better.
        return_value: what the training function of rank 0 returned; None for a result that was
            read from its directory.
    """

    return_value: Any = None

    @property
    def config(self) -> NoReturn:
        """Not part of training.

        Raises:
            DeprecationWarning: always, as Ray does.
        """
        raise DeprecationWarning(
            "Result.config has nothing to return for a training run: its config is what you gave "
            "as train_loop_config."
        )

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None
    ) -> Result:
        """Read a run's directory, of a run that has ended or is still going on.

        Nothing is unpickled before ``error`` is read. A directory counts as a checkpoint only if
        it was committed.

        Args:
            path: the run's directory: a path or a ``file://`` URI.
            storage_filesystem: the file system it is on; only the local one is supported.

        Raises:
            RuntimeError: there is no such directory, or it holds no results.
            ValueError: the file system is not supported.
        """
        from milepost.tune.results.stored import result_from_path

        return result_from_path(cls, path, storage_filesystem)
