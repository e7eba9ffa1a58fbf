"""The local engine does what every engine must."""

from __future__ import annotations

from milepost.engine.local import LocalEngine
from milepost.testing.engine_suite import EngineSuite


class TestLocalEngine(EngineSuite):
    """Runs the public suite."""

    def make_engine(self) -> LocalEngine:
        """A new engine of this machine."""
        return LocalEngine()
