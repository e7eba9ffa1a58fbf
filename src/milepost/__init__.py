"""Milepost: hyper-parameter tuning and model training whose checkpoints cannot be lost.

It speaks the API of Ray Tune: ``from milepost import tune`` in place of ``from ray import tune``.
Names are loaded when they are first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost import air, exceptions, train, tune
    from milepost.api.session import cluster_resources, init, is_initialized, shutdown

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "air",
    "cluster_resources",
    "exceptions",
    "init",
    "is_initialized",
    "shutdown",
    "train",
    "tune",
]

_FROM_SESSION = ("cluster_resources", "init", "is_initialized", "shutdown")
_ROOMS = ("air", "exceptions", "train", "tune")

#: Names of Ray's core that have no counterpart, and what to do instead.
_WITHOUT_COUNTERPART = {
    "available_resources": (
        "milepost.cluster_resources() tells what trials may use together, and the progress of a "
        "run what they hold."
    ),
    "get": "Values are passed to trials as they are; there is no object store.",
    "put": "Pass large values to trials with milepost.tune.with_parameters, which shares them.",
    "remote": "Trials are the only remote work here; call the function, or use multiprocessing.",
    "wait": "There is no object store to wait for.",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"milepost.{name}")
    if name in _FROM_SESSION:
        value = getattr(import_module("milepost.api.session"), name)
        globals()[name] = value
        return value
    from milepost.api.available import missing

    raise missing(__name__, name, __all__, _WITHOUT_COUNTERPART)


def __dir__() -> list[str]:
    return sorted(__all__)
