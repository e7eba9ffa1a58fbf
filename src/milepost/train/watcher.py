"""Follows the single workers of a training run, for callbacks, errors and the return value."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from milepost.errors import WorkerGroupError
from milepost.tune.results.lookup import AUTO_FIELDS
from milepost.worker.protocol import load

if TYPE_CHECKING:
    from milepost.api.training.callback import TrainRunContext, UserCallback


class Watcher:
    """What :class:`milepost.control.plan.Watch` says, for one run.

    Args:
        callbacks: of the user.
        context: the run, as they see it.

    Attributes:
        value: what rank 0 has returned.
    """

    def __init__(self, callbacks: Sequence[UserCallback], context: TrainRunContext) -> None:
        self._callbacks = callbacks
        self._context = context
        self._failures: dict[int, Exception] = {}
        self._pending: deque[tuple[list[dict[str, Any]], int | None]] = deque()
        self._committed: dict[int, str] = {}
        self.value: Any = None

    def begins(self) -> None:
        """Forget the last attempt: what was not committed by now never will be."""
        self._failures.clear()
        self._pending.clear()

    def reported(self, rows: tuple[bytes, ...], checkpoint: int | None) -> None:
        """Have callbacks called, in the order of reports, each when its checkpoint is committed."""
        if self._callbacks:
            metrics = [
                {key: value for key, value in load(row).items() if key not in AUTO_FIELDS}
                for row in rows
            ]
            self._pending.append((metrics, checkpoint))
            self._tell()

    def committed(self, index: int, path: str) -> None:
        """Call callbacks that wait for this."""
        if self._callbacks:
            self._committed[index] = path
            self._tell()

    def failed(self, rank: int, error: Exception | str) -> None:
        """Tell callbacks, and note it for the error of the run."""
        failure = error if isinstance(error, Exception) else RuntimeError(error)
        self._failures[rank] = failure
        for callback in self._callbacks:
            callback.after_exception(self._context, {rank: failure})

    def returned(self, rank: int, value: bytes) -> None:
        """Note what rank 0 returns."""
        if rank == 0:
            self.value = load(value)

    def error(self) -> WorkerGroupError | None:
        """The failures of the last attempt; None if no worker has failed in it."""
        if not self._failures:
            return None
        lines = [f"[rank {rank}] {failure}" for rank, failure in sorted(self._failures.items())]
        return WorkerGroupError("\n".join(lines), self._failures)

    def _tell(self) -> None:
        from milepost.checkpoint.handle import Checkpoint

        while self._pending:
            metrics, index = self._pending[0]
            if index is not None and index not in self._committed:
                return
            self._pending.popleft()
            path = None if index is None else self._committed.pop(index)
            for callback in self._callbacks:
                made = None if path is None else Checkpoint.from_directory(path)
                callback.after_report(self._context, [dict(each) for each in metrics], made)
