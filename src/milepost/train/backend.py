"""How workers find each other, under Ray's module name."""

from __future__ import annotations

from milepost.api.training.backend import Backend, BackendConfig

__all__ = ["Backend", "BackendConfig"]
