"""Ray's module names for what is in ``milepost.train``."""

from __future__ import annotations

from milepost.api.lazy import attributes

_PARTS = ("api", "jax")

__getattr__, __dir__ = attributes(__name__, {}, _PARTS)
