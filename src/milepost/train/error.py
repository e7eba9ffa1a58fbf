"""Errors of training, under Ray's module name."""

from __future__ import annotations

from milepost.errors import (
    BroadcastCollectiveTimeoutError,
    CollectiveTimeoutError,
    ControllerError,
    InsufficientClusterResourcesError,
    NCCLHangError,
    PreemptionError,
    RayTrainError,
    SessionMisuseError,
    TrainingFailedError,
    WorkerGroupError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

__all__ = [
    "BroadcastCollectiveTimeoutError",
    "CollectiveTimeoutError",
    "ControllerError",
    "InsufficientClusterResourcesError",
    "NCCLHangError",
    "PreemptionError",
    "RayTrainError",
    "SessionMisuseError",
    "TrainingFailedError",
    "WorkerGroupError",
    "WorkerGroupStartupFailedError",
    "WorkerGroupStartupTimeoutError",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
]
