"""Checks of what user code reports."""

from __future__ import annotations

import functools
import sys
from typing import Any


def check(metrics: Any, what: str) -> None:
    """Refuse metrics that cannot become a row.

    Args:
        metrics: what the user passed.
        what: how the message names it.

    Raises:
        TypeError: it is not a dict.
        ValueError: a tensor or module is in it; the message names its key.
    """
    if not isinstance(metrics, dict):
        raise TypeError(
            f"{what} takes a dict of metrics, such as {{'loss': 0.5}}, not {type(metrics).__name__}"
        )
    if "done" in metrics:
        _check_done(metrics["done"], what)
    refuse_tensors(metrics, f"{what}: metric")


def refuse_tensors(value: Any, what: str) -> None:
    """Refuse tensors and modules anywhere in dicts, lists and tuples.

    Args:
        value: what is looked through.
        what: how the message names it, before the place in it.

    Raises:
        ValueError: there is one; the message names its place.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return
    tensor = getattr(torch, "Tensor", None)
    module = getattr(getattr(torch, "nn", None), "Module", None)
    if tensor is not None and module is not None:  # else it is being imported
        _refuse(value, (tensor, module), "", what)


def _check_done(value: Any, what: str) -> None:
    try:
        bool(value)
    except Exception as error:
        raise ValueError(
            f"{what}: 'done' says whether the trial is to end, so that it must be true or false; "
            f"{value!r} is neither ({error}). Give the metric another name, or pass a bool."
        ) from error


def _refuse(value: Any, kinds: tuple[type, ...], path: str, what: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse(item, kinds, f"{path}/{key}" if path else str(key), what)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse(item, kinds, f"{path}/{i}", what)
    elif isinstance(value, kinds):
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        where = f" {path!r}" if path else ""
        raise ValueError(
            f"{what}{where} is a {kind}. Pass plain values, which the driver "
            "can read, although it may have no GPU and no torch: `.item()` for a single number, "
            "`.tolist()` or `.cpu().numpy()` for more; save models in a checkpoint."
        )


def unpicklable(metrics: dict[str, Any], error: Exception) -> TypeError:
    """The error for metrics that cannot be sent, naming the key that is in the way."""
    from milepost.worker.protocol import dump

    for key, value in metrics.items():
        try:
            dump(value)
        except Exception as reason:  # noqa: BLE001
            return TypeError(
                f"metric {key!r} ({type(value).__name__}) cannot be sent to the driver: {reason}"
            )
    return TypeError(f"the metrics cannot be sent to the driver: {error}")


def check_checkpoint(checkpoint: Any, what: str) -> None:
    """Refuse what is no :class:`~milepost.checkpoint.handle.Checkpoint`.

    Args:
        checkpoint: what the user passed.
        what: the function that it was passed to.

    Raises:
        TypeError: naming the type, and what to pass.
    """
    if not isinstance(checkpoint, _checkpoint_type()):
        raise TypeError(
            f"{what}(checkpoint={checkpoint!r}): it must be a Checkpoint, not "
            f"{type(checkpoint).__name__}. Make one from the directory that you wrote: "
            "Checkpoint.from_directory(path)."
        )


@functools.cache  # where the processor's caches are cold, an import statement takes long
def _checkpoint_type() -> type:
    from milepost.checkpoint.handle import Checkpoint

    return Checkpoint
