"""Reports from PyTorch Lightning. Mirrors ``ray.tune.integration.pytorch_lightning``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.tune.integration._pytorch_lightning import (
        TuneCallback,
        TuneReportCallback,
        TuneReportCheckpointCallback,
    )

__all__ = ["TuneCallback", "TuneReportCallback", "TuneReportCheckpointCallback"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from milepost.tune.integration import _pytorch_lightning

        globals()[name] = getattr(_pytorch_lightning, name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
