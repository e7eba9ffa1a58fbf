"""The callback for Lightning in training workers."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from milepost.train.session import report
from milepost.tune.integration._pytorch_lightning import lightning

if TYPE_CHECKING:
    from milepost.api.training.reported import CheckpointUploadMode
    from milepost.api.training.validation_config import ValidationTaskConfig

_Base: Any = lightning().Callback


class RayTrainReportCallback(_Base):  # type: ignore[misc]
    """Reports at the end of each training epoch, with a checkpoint. Mirrors Ray's class.

    Pass an object of it in ``Trainer(callbacks=[...])``, and ``enable_checkpointing=False``.
    Metrics are all of ``trainer.callback_metrics``, ``epoch`` and ``step``. The checkpoint is
    Lightning's, all of its state in ``checkpoint.ckpt``, with the files of all workers if a
    strategy writes several; go on by ``trainer.fit(ckpt_path=...)``.

    Args:
        checkpoint_upload_mode: as for ``milepost.train.report``.
        validation: as for ``milepost.train.report``.
    """

    CHECKPOINT_NAME = "checkpoint.ckpt"

    def __init__(
        self,
        checkpoint_upload_mode: CheckpointUploadMode | None = None,
        validation: bool | ValidationTaskConfig = False,
    ) -> None:
        super().__init__()
        self._mode = checkpoint_upload_mode
        self._validation = validation

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report; called by Lightning on all workers."""
        from milepost.checkpoint.handle import Checkpoint

        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics["epoch"] = trainer.current_epoch
        metrics["step"] = trainer.global_step
        with tempfile.TemporaryDirectory(prefix="milepost-lightning-") as directory:
            # Strategies that write one file per worker use rank 0's directory for all. Lightning
            # waits for all workers at the end of this, so it is complete then.
            trainer.save_checkpoint(
                os.path.join(directory, self.CHECKPOINT_NAME), weights_only=False
            )
            part = Checkpoint.from_directory(directory) if os.listdir(directory) else None
            report(
                metrics,
                checkpoint=part,
                checkpoint_upload_mode=self._mode,
                validation=self._validation if part is not None else False,
            )
