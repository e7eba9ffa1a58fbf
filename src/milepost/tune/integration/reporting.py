"""What the callbacks of all libraries have in common: choosing metrics, saving, reporting."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from milepost.api.spelling import did_you_mean

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint

#: Metrics to report: all (None), one, several, or ``{reported name: library's name}``.
Metrics = str | list[str] | dict[str, str] | None


def library(name: str, package: str | None = None) -> Any:
    """Import a library that users install themselves.

    Args:
        name: the module.
        package: what to install, when it is called differently.

    Raises:
        ImportError: it is not installed; the message names the pip command.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # the library is there, something that it needs is not
        raise ImportError(
            f"This part of Milepost needs {name}: run `pip install {package or name}`."
        ) from None


def names_of(metrics: Metrics) -> dict[str, str] | None:
    """Return metrics as ``{reported name: library's name}``; None for all.

    Raises:
        TypeError: they are neither a string, nor a list, nor a dict.
    """
    if metrics is None or isinstance(metrics, dict):
        return metrics
    if isinstance(metrics, str):
        return {metrics: metrics}
    if isinstance(metrics, Iterable):
        return {name: name for name in metrics}
    raise TypeError(f"metrics must be a name, a list of names or a dict, got {metrics!r}.")


def chosen(names: dict[str, str] | None, available: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics to report, of those that a library has now.

    Raises:
        KeyError: one is not there.
    """
    if names is None:
        return dict(available)
    for theirs in names.values():
        if theirs not in available:
            raise KeyError(
                f"The metric {theirs!r} is not among the results." + did_you_mean(theirs, available)
            )
    return {ours: available[theirs] for ours, theirs in names.items()}


#: Where staged checkpoints lie until they are captured.
_PREFIX = "milepost-report-"

#: Writes a checkpoint's files into a directory.
Save = Callable[[str], object]


class Report(Protocol):
    """Hands metrics on, with a checkpoint or without; trials and workers have their own."""

    def __call__(
        self,
        metrics: dict[str, Any],
        save: Save | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Report.

        Args:
            metrics: what to report.
            save: writes the checkpoint's files into a directory; None for no checkpoint.
            metadata: kept with the checkpoint.
        """


@contextlib.contextmanager
def staged(save: Save, metadata: Mapping[str, Any] | None = None) -> Iterator[Checkpoint]:
    """Give a checkpoint for a while, in a directory of its own that is deleted afterwards.

    Args:
        save: writes the checkpoint's files into a directory.
        metadata: kept with the checkpoint.
    """
    from milepost.checkpoint.handle import Checkpoint

    with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory:
        save(directory)
        checkpoint = Checkpoint.from_directory(directory)
        if metadata:
            checkpoint.set_metadata(dict(metadata))
        yield checkpoint


def report(
    metrics: dict[str, Any],
    save: Save | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Report from a trial; see :class:`Report`."""
    from milepost.worker import session

    if save is None:
        session.report(metrics)
        return
    with staged(save, metadata) as checkpoint:
        session.report(metrics, checkpoint=checkpoint)
