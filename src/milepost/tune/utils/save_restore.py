"""A check that a class trainable survives being saved and restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.worker.trainable import Trainable


def validate_save_restore(
    trainable_cls: type[Trainable],
    config: dict[str, Any] | None = None,
    num_gpus: int = 0,
) -> bool:
    """Train, save and restore a class trainable in this process; returns True.

    Args:
        trainable_cls: a subclass of :class:`milepost.tune.Trainable`.
        config: its configuration.
        num_gpus: has no effect: both objects use what this process sees.

    Raises:
        TypeError: it is no such class.
        RuntimeError: the restored object did not go on at the iteration that was saved.
    """
    from milepost.worker.trainable import Trainable

    if not (isinstance(trainable_cls, type) and issubclass(trainable_cls, Trainable)):
        raise TypeError(f"validate_save_restore takes a Trainable class, got {trainable_cls!r}.")
    original = trainable_cls(config)
    try:
        for _ in range(3):
            original.train()
        saved = original.save()
    finally:
        original.stop()
    restored = trainable_cls(config)
    try:
        restored.restore(saved)
        for expected in (4, 5):
            reached = restored.train()["training_iteration"]
            if reached != expected:
                raise RuntimeError(
                    f"{trainable_cls.__name__} was saved after iteration 3; restored, its next "
                    f"iterations were expected to be 4 and 5, but {expected} came as {reached}."
                )
    finally:
        restored.stop()
    return True
