"""The logger for MLflow, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.mlflow import MLflowLoggerCallback

__all__ = ["MLflowLoggerCallback"]
