"""What one trial came to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.tune.results.lazy import LazyField
from milepost.tune.results.lookup import AUTO_FIELDS, check_mode, lookup, score

if TYPE_CHECKING:
    from pandas import DataFrame

    from milepost.checkpoint.handle import Checkpoint
    from milepost.tune.results.lineage import Stretch


@dataclass(repr=False, eq=False)
class Result:
    """The outcome of one trial. Mirrors ``ray.tune.Result``.

    ``error`` and ``metrics_dataframe`` are worked out when they are first read, so a grid of
    thousands of results is cheap, and listing old results unpickles nothing.

    Args:
        metrics: the last row of the trial, nested as reported, with the auto-filled fields,
            ``config`` and ``experiment_tag``. After a retry it is the row of the checkpoint that
            the trial went on from, until the next report.
        checkpoint: the latest committed checkpoint, or None.
        error: None for a trial that ended well; else the exception, which is also an instance of
            the type that user code raised, or its text when there was no exception.
        path: the trial's directory.
        metrics_dataframe: every logged row, with flat names (``a/b``); empty when there is none.
        best_checkpoints: kept checkpoints with their rows, the best one last; at most
            ``num_to_keep``. The latest checkpoint is not among them when others are better.

    Example:
        >>> result = grid.get_best_result("loss", "min")                    # doctest: +SKIP
        >>> result.metrics["loss"], result.config["lr"], result.checkpoint  # doctest: +SKIP
    """

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    error: LazyField[Exception | str | None] = LazyField()  # noqa: RUF009
    path: str  # type: ignore[misc]  # mypy takes the descriptor above for a default
    metrics_dataframe: LazyField[DataFrame | None] = LazyField(default=None)  # noqa: RUF009
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] | None = None
    _storage_filesystem: Any = None

    _items_to_repr: ClassVar[list[str]] = ["error", "metrics", "path", "filesystem", "checkpoint"]

    @property
    def config(self) -> dict[str, Any] | None:
        """The trial's configuration; None when the trial never got as far as a row."""
        return self.metrics.get("config") if self.metrics else None

    @property
    def filesystem(self) -> Any:
        """The file system that ``path`` is on; pyarrow's object where pyarrow is installed."""
        if self._storage_filesystem is not None:
            return self._storage_filesystem
        from milepost.storage.filesystem import local_filesystem

        return local_filesystem()

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """Return the kept checkpoint whose row has the best value of a metric.

        Args:
            metric: its name; ``a/b`` names a nested one.
            mode: ``"min"`` or ``"max"``.

        Raises:
            ValueError: ``mode`` is neither.
            RuntimeError: there is no checkpoint, or none of their rows has the metric.
        """
        check_mode(mode)
        if not self.best_checkpoints:
            raise RuntimeError(f"No checkpoint exists in the trial directory {self.path}.")
        scored = [
            (value, checkpoint)
            for checkpoint, row in self.best_checkpoints
            if (value := score(lookup(row, metric))) is not None and value == value
        ]
        if not scored:
            raise RuntimeError(
                f"None of the {len(self.best_checkpoints)} checkpoints in {self.path} was reported "
                f"with a number for metric {metric!r}. Their metrics: "
                f"{_metric_names(self.best_checkpoints[-1][1])}."
            )
        choose = max if mode == "max" else min
        return choose(scored, key=lambda pair: pair[0])[1]

    def lineage(self) -> list[Stretch]:
        """Return where the trial's weights come from, the newest stretch of training first.

        A trial that never went on from another's checkpoint has one stretch. With population based
        training each further one is that of the trial whose checkpoint was taken over: its config,
        and which checkpoint it was. It is read from the experiment's journal and the manifests of
        checkpoints; nothing is unpickled.

        Raises:
            RuntimeError: the trial's directory is not in its experiment any more.
        """
        from milepost.tune.results.lineage import lineage_of

        return lineage_of(self.path)

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None
    ) -> Result:
        """Read a trial's directory, of a run that has ended or is still going on.

        Nothing is unpickled before ``error`` is read. A directory counts as a checkpoint only if
        it was committed: half-written and foreign ones are left out, and the log names them.

        Args:
            path: the trial's directory: a path or a ``file://`` URI.
            storage_filesystem: the file system it is on; only the local one is supported.

        Raises:
            RuntimeError: there is no such directory, or it holds no results.
            ValueError: the file system is not supported.
        """
        from milepost.tune.results.stored import result_from_path

        return result_from_path(cls, path, storage_filesystem)

    def __repr__(self) -> str:
        lines = [f"  {name}={text}" for name, text in self._shown()]
        return "\n".join([f"{type(self).__name__}(", ",\n".join(lines), ")"])

    def _repr_html_(self) -> str:
        from milepost.tune.results.html import table

        return table(type(self).__name__, (), list(self._shown()))

    def _shown(self) -> list[tuple[str, str]]:
        """What repr tells: short texts; nothing that has to be loaded from disk but the error."""
        metrics = {k: v for k, v in (self.metrics or {}).items() if k not in AUTO_FIELDS}
        filesystem = getattr(self._storage_filesystem, "type_name", "local")
        texts = {
            "error": f"{type(self.error).__name__!r}" if self.error is not None else None,
            "metrics": repr(metrics),
            "path": repr(self.path),
            "filesystem": repr(filesystem),
            "checkpoint": repr(self.checkpoint),
        }
        return [(name, text) for name in self._items_to_repr if (text := texts[name]) is not None]


def _metric_names(row: dict[str, Any]) -> str:
    names = sorted(name for name in row if name not in AUTO_FIELDS)
    return ", ".join(names) or "none"
