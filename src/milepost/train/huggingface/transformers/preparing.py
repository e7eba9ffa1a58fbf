"""The check that a trainer of Transformers fits into training workers."""

from __future__ import annotations

from typing import Any

from milepost.train.context import get_context


def prepare_trainer(trainer: Any) -> Any:
    """Make sure that a ``transformers.Trainer`` has found the workers that there are.

    Mirrors ``ray.train.huggingface.transformers.prepare_trainer``. Its data loaders share out
    samples themselves, so nothing has to be changed.

    Args:
        trainer: it is not changed.

    Returns:
        The trainer.

    Raises:
        RuntimeError: it has another number of workers, since it was told to use something else
            than ``torch.distributed``.
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
    """
    found, workers = trainer.args.world_size, get_context().get_world_size()
    if found != workers:
        raise RuntimeError(
            f"This Trainer has found {found} workers, there are {workers}. Run it in a function of "
            "TorchTrainer, whose process group it takes over, and make TrainingArguments there."
        )
    return trainer
