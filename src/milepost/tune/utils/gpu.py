"""Waiting for a GPU that an earlier process still uses."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

logger = logging.getLogger("milepost.tune")


def wait_for_gpu(
    gpu_id: int | str | None = None,
    target_util: float = 0.01,
    retry: int = 20,
    delay_s: float = 5,
    gpu_memory_limit: float | None = None,
) -> bool:
    """Wait until a GPU is nearly free; returns True.

    Args:
        gpu_id: number or UUID of the GPU; the default is the first one that this process may use.
        target_util: share of its memory that may be in use.
        retry: how often to look.
        delay_s: seconds between two looks.
        gpu_memory_limit: deprecated name of ``target_util``.

    Raises:
        ImportError: GPUtil is not installed.
        ValueError: there is no such GPU.
        RuntimeError: the GPU was still in use at the last look.
    """
    GPUtil = _gputil()  # noqa: N806 - the library's name
    if gpu_memory_limit is not None:
        raise ValueError("gpu_memory_limit has no effect any more; use target_util.")
    field, wanted = _identify(gpu_id)
    for look in range(int(retry)):
        gpus = GPUtil.getGPUs()
        gpu = next((g for g in gpus if getattr(g, field) == wanted), None)
        if gpu is None:
            known = [getattr(g, field) for g in gpus]
            raise ValueError(f"There is no GPU with {field} {wanted!r}; there are {known}.")
        if gpu.memoryUtil <= target_util:
            return True
        logger.info(
            "Waiting for GPU %s: %.1f%% of its memory is in use, waiting for %.1f%% (%d of %d).",
            wanted,
            100 * gpu.memoryUtil,
            100 * target_util,
            look + 1,
            retry,
        )
        time.sleep(delay_s)
    raise RuntimeError(
        f"GPU {wanted} was still in use after {retry} looks, {delay_s} s apart. "
        "Look with nvidia-smi for the process that holds it."
    )


def _gputil() -> Any:
    try:
        import GPUtil
    except ImportError:
        raise ImportError("wait_for_gpu needs GPUtil: run `pip install GPUtil`.") from None
    return GPUtil


def _identify(gpu_id: int | str | None) -> tuple[str, int | str]:
    """The attribute of GPUtil's objects to compare, and its value."""
    if gpu_id is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        gpu_id = visible or 0
    if isinstance(gpu_id, int):
        return "id", gpu_id
    if isinstance(gpu_id, str):
        return ("id", int(gpu_id)) if gpu_id.isdigit() else ("uuid", gpu_id)
    raise ValueError(f"gpu_id must be a number or a UUID, got {gpu_id!r}.")
