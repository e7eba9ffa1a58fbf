"""Functions of Ray's first version of training, which say what to write instead."""

from __future__ import annotations

from typing import Any, NoReturn


def accelerate(amp: bool = False) -> NoReturn:
    """Refuse. Mirrors ``ray.train.torch.accelerate``.

    Args:
        amp: whether operations were to run in half precision.

    Raises:
        DeprecationWarning: always, as Ray does.
    """
    raise DeprecationWarning(
        "milepost.train.torch.accelerate() does nothing in training workers. For automatic mixed "
        "precision run the forward pass under torch.autocast(...), and scale the loss with "
        "torch.amp.GradScaler if it is in float16; or use a library such as Lightning or "
        "Accelerate."
    )


def prepare_optimizer(optimizer: Any) -> NoReturn:
    """Refuse. Mirrors ``ray.train.torch.prepare_optimizer``.

    Args:
        optimizer: one of PyTorch's.

    Raises:
        DeprecationWarning: always, as Ray does.
    """
    raise DeprecationWarning(
        "milepost.train.torch.prepare_optimizer() is not needed: use the optimizer as it is. For "
        "automatic mixed precision call torch.amp.GradScaler.step(optimizer)."
    )


def backward(tensor: Any) -> NoReturn:
    """Refuse. Mirrors ``ray.train.torch.backward``.

    Args:
        tensor: the loss.

    Raises:
        DeprecationWarning: always, as Ray does.
    """
    raise DeprecationWarning(
        "milepost.train.torch.backward() is not needed: call loss.backward(). For automatic mixed "
        "precision call torch.amp.GradScaler.scale(loss).backward()."
    )
