"""What a trial can ask about itself, under Ray's module name."""

from __future__ import annotations

from milepost.api.preemption import PreemptionInfo
from milepost.worker.context import TuneContext, get_context

__all__ = ["PreemptionInfo", "TuneContext", "get_context"]
