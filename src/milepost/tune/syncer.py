"""Sync settings, under Ray's module name."""

from __future__ import annotations

from milepost.api.sync_config import SyncConfig

__all__ = ["SyncConfig"]
