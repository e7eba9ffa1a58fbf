"""MLflow, under Ray's module name."""

from __future__ import annotations

from milepost.integrations.mlflow import MLflowLoggerCallback, setup_mlflow

__all__ = ["MLflowLoggerCallback", "setup_mlflow"]
