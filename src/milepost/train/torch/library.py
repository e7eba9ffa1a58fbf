"""PyTorch, or an error that says how to get it."""

from __future__ import annotations

from types import ModuleType


def pytorch() -> ModuleType:
    """Import PyTorch.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise  # PyTorch is there, something that it needs is not
        raise ImportError(
            "milepost.train.torch needs PyTorch: run `pip install 'milepost[torch]'`."
        ) from None
    return torch  # type: ignore[no-any-return]
