"""The callback for Transformers in training workers."""

from __future__ import annotations

import os
import shutil
from typing import Any

from milepost.train import collective
from milepost.train.context import get_context
from milepost.train.session import report
from milepost.tune.integration.reporting import library, staged

_Base: Any = library("transformers").TrainerCallback


class RayTrainReportCallback(_Base):  # type: ignore[misc]
    """Reports whenever Transformers saves, with what it has saved. Mirrors Ray's class.

    Pass an object of it in ``Trainer(callbacks=[...])``. Metrics are the newest of each name in
    the log. The checkpoint has Transformers' own in the directory ``checkpoint``; go on by
    ``trainer.train(resume_from_checkpoint=...)`` with its path.

    Workers may share ``output_dir``, which is then read by rank 0 once all have saved, or have one
    each; then the checkpoint has the files of all.
    """

    CHECKPOINT_NAME = "checkpoint"

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report; called by Transformers on all workers."""
        metrics: dict[str, Any] = {}
        for entry in state.log_history:
            metrics.update(entry)
        # Not the last one there is: an attempt that failed may have left later ones.
        path = os.path.realpath(os.path.join(args.output_dir, f"checkpoint-{state.global_step}"))
        own = path if os.path.isdir(path) else None
        # This waits for all workers, so that nobody is still writing afterwards.
        first = collective.broadcast_from_rank_zero(own)
        if own is None or (own == first and get_context().get_world_rank() != 0):
            report(metrics)
            return
        with staged(
            lambda path: shutil.copytree(own, os.path.join(path, self.CHECKPOINT_NAME))
        ) as part:
            report(metrics, checkpoint=part)
