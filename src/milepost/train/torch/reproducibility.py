"""Runs that can be repeated."""

from __future__ import annotations

import os
import random

from milepost.api.spelling import spelled
from milepost.train.torch.library import pytorch

#: What :func:`enable_reproducibility` was called with in this process; None if it was not.
_seed: int | None = None


@spelled
def enable_reproducibility(seed: int = 0) -> None:
    """Make what this process computes repeatable. Mirrors ``ray.train.torch``'s function.

    The generators of PyTorch, Python and numpy get the seed, PyTorch uses deterministic
    algorithms only (an operation that has none raises ``RuntimeError``), and cuDNN and cuBLAS are
    told the same. Loaders that ``prepare_data_loader`` returns later have workers with seeds of
    their own, which depend on this one, the rank, and the epoch where
    ``loader.set_epoch(epoch)`` is called. Training may be slower.

    Args:
        seed: from 0 to 2 ** 32 - 1.

    Raises:
        TypeError: the seed is no integer.
        ValueError: it is out of range.
        ImportError: PyTorch is not installed.
    """
    global _seed
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"enable_reproducibility(seed={seed!r}): the seed must be an integer.")
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"enable_reproducibility(seed={seed!r}): numpy takes seeds from 0 to 2 ** 32 - 1."
        )
    torch = pytorch()
    import numpy

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    _seed = seed


def seed_of_run() -> int | None:
    """Return the seed of :func:`enable_reproducibility`; None if it was not called."""
    return _seed
