"""Weights & Biases, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.wandb import WandbLoggerCallback, setup_wandb

__all__ = ["WandbLoggerCallback", "setup_wandb"]
