"""The callback for LightGBM, which is a plain function and needs no base class."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ClassVar

from milepost.tune.integration import reporting


class ReportCallback:
    """Reports each iteration of LightGBM, some with a checkpoint; subclasses say where to.

    Args:
        metrics: which metrics, under which names; all by default. They are named
            ``<data set>-<metric>``, those of ``lightgbm.cv`` with ``-mean`` and ``-stdv``.
        filename: the model's file in the checkpoint.
        frequency: a checkpoint every so many iterations; 0 for none.
        checkpoint_at_end: also one with the last iteration.
        results_postprocessing_fn: ``metrics -> metrics``, applied before they are chosen.
    """

    _report: ClassVar[reporting.Report]

    #: Called before LightGBM's early stopping (30), which ends the loop.
    order = 20
    before_iteration = False

    def __init__(
        self,
        metrics: reporting.Metrics = None,
        filename: str = "model.txt",
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: Callable[[dict[str, float]], dict[str, float]] | None = None,
    ) -> None:
        self._names = reporting.names_of(metrics)
        self._filename = filename
        self._frequency = frequency
        self._checkpoint_at_end = checkpoint_at_end
        self._postprocess = results_postprocessing_fn

    def __call__(self, env: Any) -> None:
        """Report one iteration; called by LightGBM."""
        metrics = self._metrics(env)
        is_last = env.iteration == env.end_iteration - 1
        is_due = self._frequency > 0 and (env.iteration + 1) % self._frequency == 0
        save = None
        if is_due or (is_last and self._checkpoint_at_end):
            save = functools.partial(self._save, env.model)
        self._report(metrics, save)

    def _save(self, model: Any, directory: str) -> None:
        model.save_model(os.path.join(directory, self._filename))

    def _metrics(self, env: Any) -> dict[str, Any]:
        available: dict[str, Any] = {}
        for data_name, metric, value, _, *spread in env.evaluation_result_list or []:
            name = f"{data_name}-{metric}"
            if spread:
                available[f"{name}-mean"] = value
                available[f"{name}-stdv"] = spread[0]
            else:
                available[name] = value
        if self._postprocess is not None:
            available = self._postprocess(available)
        return reporting.chosen(self._names, available)

    @classmethod
    def get_model(cls, checkpoint: Any, filename: str = "model.txt") -> Any:
        """Return the ``lightgbm.Booster`` in a checkpoint.

        Raises:
            ImportError: LightGBM is not installed.
        """
        lightgbm = reporting.library("lightgbm")
        with checkpoint.as_directory() as path:
            return lightgbm.Booster(model_file=os.path.join(path, filename))
