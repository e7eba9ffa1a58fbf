"""Runs to draw: what the display reads of a run, with values that tests choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from milepost.control.view import TrialView
from milepost.testing import FakeClock


def trial(name: str = "train_1a2b3_00000", status: str = "RUNNING", **changes: Any) -> TrialView:
    """A trial that has not reported yet, but for what is given."""
    given: dict[str, Any] = {
        "evaluated": {"lr": 0.01},
        "row": {},
        "iteration": 0,
        "latest_checkpoint": None,
        "failures": 0,
        "error": None,
    }
    return TrialView(name=name, status=status, **{**given, **changes})


@dataclass
class FakeView:
    """A run as the controller tells of it; counts how often it was looked at."""

    name: str = "digits"
    metric: str | None = "accuracy"
    mode: str | None = "max"
    total: int | None = 8
    elapsed_s: float = 3.0
    running: list[TrialView] = field(default_factory=list)
    ended: list[TrialView] = field(default_factory=list)
    failed: list[TrialView] = field(default_factory=list)
    best: TrialView | None = None
    resources_used: dict[str, float] = field(default_factory=lambda: {"CPU": 2.0})
    resources_total: dict[str, float] = field(default_factory=lambda: {"CPU": 4.0, "GPU": 0.0})
    committed_count: int = 0
    committed_bytes: int = 0
    pending_commits: int = 0
    looks: int = 0

    @property
    def counts(self) -> dict[str, int]:
        self.looks += 1
        return {
            "RUNNING": len(self.running),
            "TERMINATED": len(self.ended),
            "ERROR": len(self.failed),
        }

    def trials(self, limit: int) -> list[TrialView]:
        return (self.running + self.ended + self.failed)[:limit]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_view() -> type[FakeView]:
    return FakeView


@pytest.fixture
def view() -> FakeView:
    """A run in full swing: two trials run, one has ended, one has failed."""
    row = {"training_iteration": 3, "time_total_s": 36.5, "accuracy": 0.93, "eval": {"loss": 0.25}}
    running = [
        trial(f"train_1a2b3_{i:05d}", row=dict(row), iteration=3, latest_checkpoint=2)
        for i in range(2)
    ]
    ended = trial(
        "train_1a2b3_00002",
        "TERMINATED",
        row={**row, "training_iteration": 9, "accuracy": 0.97},
        iteration=9,
        latest_checkpoint=8,
    )
    failed = trial(
        "train_1a2b3_00003",
        "ERROR",
        failures=1,
        error="Traceback (most recent call last):\n  File 'x'\nValueError: lr is too large",
    )
    return FakeView(
        running=running,
        ended=[ended],
        failed=[failed],
        best=ended,
        committed_count=12,
        committed_bytes=3 * 1024**2,
        pending_commits=1,
    )
