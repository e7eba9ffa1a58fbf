"""Errors of training, under Ray's module name."""

from __future__ import annotations

from milepost.errors import (
    CollectiveError,
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

#: Ray's name for it.
BroadcastCollectiveTimeoutError = CollectiveTimeoutError

__all__ = [
    "BroadcastCollectiveTimeoutError",
    "CollectiveError",
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
