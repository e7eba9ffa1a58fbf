"""The logger for Weights & Biases, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.wandb import WandbLoggerCallback

__all__ = ["WandbLoggerCallback"]
