"""Libraries of Hugging Face in training workers, under Ray's module names."""

from __future__ import annotations

from milepost.api.lazy import attributes

_PARTS = ("transformers",)

__getattr__, __dir__ = attributes(__name__, {}, _PARTS)
