"""Real workers under a clock that stands still: what counts as a word, and who is let off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import Notes, count, rows, run_plan

from milepost import tune
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.control import run, timing
from milepost.control.silence import Silence
from milepost.testing import FakeClock

LIMIT_S = 600


class Steps(tune.Trainable):
    """Two steps, each saved."""

    def step(self) -> dict[str, Any]:
        return {"number": self.iteration + 1, "done": self.iteration == 1}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
        return {}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the timers are told, in order."""
    calls: list[str] = []

    class Recording(Silence):
        def heard(self, worker_id: str, now: float) -> None:
            calls.append("speaks")
            super().heard(worker_id, now)

        def excuse(self, worker_id: str) -> None:
            calls.append("excused")
            super().excuse(worker_id)

    monkeypatch.setattr(run, "Silence", Recording)
    return calls


def test_what_counts_as_a_word_of_a_function(tmp_path: Path, told: list[str]) -> None:
    """Its start and each answer give it the whole time; a capture is ours, and so is the end."""
    (record,) = run_plan(tmp_path, count, failure=FailureConfig(trial_timeout_s=LIMIT_S)).trials
    assert record.error is None
    report = ["excused", "speaks", "speaks"]  # busy, not busy any more, answered
    assert told[:11] == ["speaks", "speaks", *report * 3]
    assert set(told[11:]) == {"excused"}


def test_what_counts_as_a_word_of_a_class(tmp_path: Path, told: list[str]) -> None:
    """Its setup, each step and each save have the whole time each."""
    (record,) = run_plan(
        tmp_path,
        Steps,
        failure=FailureConfig(trial_timeout_s=LIMIT_S),
        checkpoint=CheckpointConfig(checkpoint_frequency=1),
    ).trials
    assert record.error is None
    save = ["speaks", "excused", "speaks"]  # told to save, captures, has captured
    assert told[:9] == ["speaks", "speaks", *save, "speaks", *save]
    assert set(told[9:]) == {"excused"}


class Waits(Notes):
    """Takes its time at each result."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.clock.advance(self.seconds)


@pytest.mark.parametrize("seconds", [0.9 * LIMIT_S, 100 * LIMIT_S])
def test_nobody_is_killed_for_the_drivers_slowness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """However long a callback takes, the worker that waits for its answer meanwhile is let off."""
    clock = FakeClock()
    for module in (run, timing):
        monkeypatch.setattr(module, "time", clock)
    trials = run_plan(
        tmp_path,
        count,
        callbacks=[Waits(clock, seconds)],
        failure=FailureConfig(trial_timeout_s=LIMIT_S),
    ).trials
    assert [record.error for record in trials] == [None]
    assert [[row["number"] for row in rows(record)] for record in trials] == [[1, 2, 3]]
