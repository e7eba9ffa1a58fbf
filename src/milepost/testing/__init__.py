"""Tools for tests, of Milepost and of what is built on it: resuming, faults, clocks, conformance.

Names are loaded when they are first used; the conformance suites need pytest and hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.testing.clock import FakeClock
    from milepost.testing.engine_suite import EngineSuite
    from milepost.testing.faulty import FaultyStorage, StorageFault
    from milepost.testing.resumable import assert_resumable
    from milepost.testing.simulated import SimulatedEngine, Simulation, simulate
    from milepost.testing.storage import StorageTests

__all__ = [
    "EngineSuite",
    "FakeClock",
    "FaultyStorage",
    "SimulatedEngine",
    "Simulation",
    "StorageFault",
    "StorageTests",
    "assert_resumable",
    "simulate",
]

_HOMES = {
    "EngineSuite": "engine_suite",
    "FakeClock": "clock",
    "FaultyStorage": "faulty",
    "SimulatedEngine": "simulated",
    "Simulation": "simulated",
    "StorageFault": "faulty",
    "StorageTests": "storage",
    "assert_resumable": "resumable",
    "simulate": "simulated",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
