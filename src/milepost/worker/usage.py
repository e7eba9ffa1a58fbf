"""Use of the machine between two results, for configs with ``log_sys_usage``."""

from __future__ import annotations

import contextlib
import importlib


def usage() -> dict[str, float]:
    """Percentages of CPU since the last call, memory now, and of each GPU if GPUtil is there."""
    import psutil

    values = {
        "cpu_util_percent": float(psutil.cpu_percent(interval=None)),
        "ram_util_percent": float(psutil.virtual_memory().percent),
    }
    with contextlib.suppress(ImportError):
        for i, gpu in enumerate(importlib.import_module("GPUtil").getGPUs()):
            values[f"gpu_util_percent{i}"] = float(gpu.load)
            values[f"vram_util_percent{i}"] = float(gpu.memoryUtil)
    return values
