"""What trials run: the class API, and what is attached to functions and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milepost.api.lazy import attributes

if TYPE_CHECKING:
    from milepost.tune.trainable.parameters import with_parameters
    from milepost.tune.trainable.resources import with_resources
    from milepost.worker.trainable import Trainable

_ORIGIN = {
    "Trainable": "milepost.worker.trainable",
    "with_parameters": "milepost.tune.trainable.parameters",
    "with_resources": "milepost.tune.trainable.resources",
}
_PARTS = ("trainable", "util")

__all__ = ["Trainable", "with_parameters", "with_resources"]


__getattr__, __dir__ = attributes(__name__, _ORIGIN, _PARTS)
