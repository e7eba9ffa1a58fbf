"""Search and resume settings, under Ray's module name."""

from __future__ import annotations

from milepost.api.resume_config import ResumeConfig
from milepost.api.tune_config import TuneConfig

__all__ = ["ResumeConfig", "TuneConfig"]
