"""All config dataclasses in one import."""

from __future__ import annotations

from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.api.run_config import DEFAULT_STORAGE_PATH, RunConfig, resolve_storage_path
from milepost.api.sync_config import SyncConfig
from milepost.api.tune_config import TuneConfig

__all__ = [
    "DEFAULT_STORAGE_PATH",
    "CheckpointConfig",
    "FailureConfig",
    "ResumeConfig",
    "ResumeType",
    "RunConfig",
    "SyncConfig",
    "TuneConfig",
    "resolve_storage_path",
]
