"""The callbacks for PyTorch Lightning, whose base class needs Lightning to be there."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from typing import Any

from milepost.api.spelling import did_you_mean
from milepost.tune.integration import reporting

logger = logging.getLogger("milepost.tune")


def lightning() -> Any:
    """Import Lightning, under its new name or its old one."""
    try:
        return reporting.library("lightning.pytorch", "lightning")
    except ImportError:
        return reporting.library("pytorch_lightning", "lightning")


_Base: Any = lightning().Callback
HOOKS = tuple(sorted(n.removeprefix("on_") for n in dir(_Base) if n.startswith("on_")))


class TuneCallback(_Base):  # type: ignore[misc]
    """Does something at chosen hooks of Lightning; subclasses say what in ``_handle``.

    Args:
        on: hook or hooks, without ``on_``, such as ``"validation_end"``.

    Raises:
        ValueError: Lightning has no such hook.
    """

    def __init__(self, on: str | list[str] = "validation_end") -> None:
        super().__init__()
        self._on = [on] if isinstance(on, str) else list(on)
        for hook in self._on:
            if hook not in HOOKS:
                raise ValueError(
                    f"on={hook!r} is no hook of Lightning." + did_you_mean(hook, HOOKS)
                )
            setattr(self, f"on_{hook}", self._call)

    def _call(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        self._handle(trainer, pl_module)

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        """What to do at the hooks."""
        raise NotImplementedError


class TuneReportCheckpointCallback(TuneCallback):
    """Reports Lightning's metrics, with a checkpoint.

    Pass an object of it to ``Trainer(callbacks=[...])`` inside a function trainable. Nothing is
    reported during the sanity check.

    Args:
        metrics: which metrics, under which names; all of ``trainer.callback_metrics`` by default.
            One that is missing is left out, with a warning in the log.
        filename: the checkpoint's file.
        save_checkpoints: whether checkpoints are saved.
        on: hook or hooks, without ``on_``.

    Raises:
        ValueError: Lightning has no such hook.
    """

    def __init__(
        self,
        metrics: reporting.Metrics = None,
        filename: str = "checkpoint",
        save_checkpoints: bool = True,
        on: str | list[str] = "validation_end",
    ) -> None:
        super().__init__(on)
        self._names = reporting.names_of(metrics)
        self._filename = filename
        self._save_checkpoints = save_checkpoints

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        metrics = self._metrics(trainer.callback_metrics)
        if not metrics:
            return
        save = functools.partial(self._save, trainer) if self._save_checkpoints else None
        reporting.report(metrics, save)

    def _save(self, trainer: Any, directory: str) -> None:
        trainer.save_checkpoint(os.path.join(directory, self._filename))

    def _metrics(self, available: Any) -> dict[str, Any]:
        names = self._names if self._names is not None else {name: name for name in available}
        metrics: dict[str, Any] = {}
        for ours, theirs in names.items():
            if theirs in available:
                metrics[ours] = available[theirs].item()
            else:
                logger.warning(
                    "Lightning has no metric %r now, so %r is not reported.%s",
                    theirs,
                    ours,
                    did_you_mean(theirs, available),
                )
        return metrics


class TuneReportCallback(TuneReportCheckpointCallback):
    """Reports Lightning's metrics without a checkpoint.

    Deprecated: use ``TuneReportCheckpointCallback(save_checkpoints=False)``.
    """

    def __init__(
        self, metrics: reporting.Metrics = None, on: str | list[str] = "validation_end"
    ) -> None:
        warnings.warn(
            "TuneReportCallback is deprecated: use "
            "TuneReportCheckpointCallback(save_checkpoints=False).",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(metrics, save_checkpoints=False, on=on)
