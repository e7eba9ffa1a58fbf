"""What callbacks for other libraries have in common: they report from training workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milepost.train.context import get_context
from milepost.train.session import report as report_here
from milepost.tune.integration.reporting import Save, staged


def report(
    metrics: dict[str, Any],
    save: Save | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Report from a training worker; see :class:`milepost.tune.integration.reporting.Report`.

    All workers have the same model then, so the one of rank 0 saves it.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``, which has callbacks of its own.
    """
    if save is None or get_context().get_world_rank() != 0:
        report_here(metrics)
        return
    with staged(save, metadata) as checkpoint:
        report_here(metrics, checkpoint=checkpoint)


def report_where_all_save(
    metrics: dict[str, Any],
    save: Save | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Report as :func:`report` does, of a model that can only be saved by all workers together.

    What rank 0 has saved is the checkpoint; the files of others differ in times, not in weights.
    """
    if save is None:
        report_here(metrics)
        return
    with staged(save, metadata) as checkpoint:
        first = get_context().get_world_rank() == 0
        report_here(metrics, checkpoint=checkpoint if first else None)
