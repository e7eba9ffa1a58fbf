"""The loggers of result files.

As they are, these classes only say which files are wanted: the files are written outside of the
driver, from the journal. A subclass that changes a hook runs in the driver and writes them there.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from milepost.api.callback import Callback, LoggerCallback

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.journal.files.trial import TrialFiles

logger = logging.getLogger("milepost.tune")

Projection = Literal["json", "csv", "tensorboard"]


class FileLoggerCallback(LoggerCallback):
    """Writes one kind of result file into each trial's directory."""

    #: Which files.
    projection: ClassVar[Projection]

    def log_trial_start(self, trial: Trial) -> None:
        """Write what is known before the first result."""
        from milepost.storage import codec

        files = self._files.get(trial.trial_id)
        config = codec.encode(trial.config, self._put)
        if files is None:
            files = self._files[trial.trial_id] = self._files_of(trial, config)
        else:
            files.reconfigure(_raw(config))
        files.begin()

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Write one row; it is in the file when this returns."""
        from milepost.journal.files.rows import Row
        from milepost.storage import codec

        if trial.trial_id not in self._files:
            self.log_trial_start(trial)
        row = {key: value for key, value in result.items() if key != "config"}
        objects: dict[str, bytes] = {}  # they go with the row
        encoded = codec.encode(row, lambda data: _put_into(objects, data))
        self._files[trial.trial_id].add(Row(encoded, time.time(), objects.__getitem__))
        self._files[trial.trial_id].flush()

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Write what is known at the end."""
        files = self._files.pop(trial.trial_id, None)
        if files is not None:
            files.end(time.time())

    @property
    def _files(self) -> dict[str, TrialFiles]:
        """By trial; made at first use, since a subclass need not call our constructor."""
        files: dict[str, TrialFiles] = self.__dict__.setdefault("_files_by_trial", {})
        return files

    @property
    def _objects(self) -> dict[str, bytes]:
        """Values of configs that JSON cannot hold, by digest."""
        objects: dict[str, bytes] = self.__dict__.setdefault("_objects_by_digest", {})
        return objects

    def _put(self, data: bytes) -> str:
        return _put_into(self._objects, data)

    def _files_of(self, trial: Trial, config: bytes) -> TrialFiles:
        from milepost.journal.files.trial import TrialFiles
        from milepost.storage import codec

        return TrialFiles(
            trial.path,
            _raw(config),
            _raw(codec.encode(trial.evaluated_params, self._put)),
            {self.projection},
            self._objects.__getitem__,
            lambda text: logger.warning("%s", text),
        )


class JsonLoggerCallback(FileLoggerCallback):
    """``result.json`` (one JSON object per result), ``params.json`` and ``params.pkl``.

    Mirrors ``ray.tune.logger.JsonLoggerCallback``.
    """

    projection = "json"


class CSVLoggerCallback(FileLoggerCallback):
    """``progress.csv``: one line per result. Mirrors ``ray.tune.logger.CSVLoggerCallback``."""

    projection = "csv"


class TBXLoggerCallback(FileLoggerCallback):
    """TensorBoard event files. Mirrors ``ray.tune.logger.TBXLoggerCallback``."""

    projection = "tensorboard"


def projections(callbacks: Iterable[Callback]) -> frozenset[Projection]:
    """Return which result files are written outside of the driver.

    All three are by default; with ``TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1`` only those asked for. A
    subclass that changes a hook writes its files itself, so they are not written twice.

    Args:
        callbacks: the run's callbacks.
    """
    wanted: set[Projection] = set()
    if os.environ.get("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0") != "1":
        wanted = {"json", "csv", "tensorboard"}
    for callback in callbacks:
        if isinstance(callback, FileLoggerCallback):
            if _changes_hooks(callback):
                wanted.discard(callback.projection)
            else:
                wanted.add(callback.projection)
    return frozenset(wanted)


def without_file_loggers(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return the callbacks that run in the driver, in their order."""
    return [
        callback
        for callback in callbacks
        if not isinstance(callback, FileLoggerCallback) or _changes_hooks(callback)
    ]


def _changes_hooks(callback: FileLoggerCallback) -> bool:
    """Whether the hooks of a file logger are not ours any more."""
    hooks = [name for name in dir(LoggerCallback) if not name.startswith("__")]
    kind = type(callback)
    return any(getattr(kind, name) is not getattr(FileLoggerCallback, name) for name in hooks)


def _put_into(objects: dict[str, bytes], data: bytes) -> str:
    from milepost.journal.objects import digest

    name = digest(data)
    objects[name] = data
    return name


def _raw(data: bytes) -> Any:
    import msgspec

    return msgspec.Raw(data)
