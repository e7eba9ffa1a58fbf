"""What trials run: the class API, and what is attached to functions and classes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from milepost.api.available import missing

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


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        value = getattr(import_module(_ORIGIN[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise missing(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
