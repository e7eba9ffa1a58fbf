"""How often states are saved."""

from __future__ import annotations

import pytest

from milepost.journal.cadence import Cadence


def test_saving_takes_at_most_a_twentieth_of_the_time() -> None:
    """The pause after a save is 19 times its length, and never under ten seconds."""
    cadence = Cadence()
    assert cadence.is_due(0.0)
    cadence.saved(100.0, 0.2)
    assert cadence.period_s == 10.0
    assert not cadence.is_due(109.9)
    assert cadence.is_due(110.0)
    cadence.saved(200.0, 3.0)
    assert cadence.period_s == pytest.approx(57.0)
    assert not cadence.is_due(256.9)
    cadence.saved(300.0, 0.1)
    assert cadence.period_s == 10.0


def test_the_environment_sets_a_fixed_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is followed whatever a save costs; anything else but auto is an error."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "2.5")
    cadence = Cadence.from_environment()
    cadence.saved(10.0, 100.0)
    assert not cadence.is_due(12.4)
    assert cadence.is_due(12.5)
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "auto")
    assert Cadence.from_environment().period_s == 10.0
    monkeypatch.delenv("TUNE_GLOBAL_CHECKPOINT_S")
    assert Cadence.from_environment().period_s == 10.0
    for odd in ("often", "-1", "nan", "inf", ""):
        monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", odd)
        with pytest.raises(ValueError, match=f"seconds or 'auto', but it is '{odd}'"):
            Cadence.from_environment()
