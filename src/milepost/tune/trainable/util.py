"""What is attached to functions and classes, under Ray's module name."""

from __future__ import annotations

from milepost.tune.trainable.parameters import with_parameters
from milepost.tune.trainable.resources import with_resources

__all__ = ["with_parameters", "with_resources"]
