"""The clock that only moves when it is told to."""

from __future__ import annotations

import pytest

from milepost.testing import FakeClock


def test_both_times_move_together() -> None:
    """However it is asked, it stands still until it is advanced or somebody sleeps."""
    clock = FakeClock(monotonic=5, wall=1_000)
    assert clock.monotonic() == clock() == clock.perf_counter() == 5
    clock.advance(2.5)
    clock.sleep(1.5)
    assert (clock.monotonic(), clock.time()) == (9, 1_004)
    assert repr(clock) == "FakeClock(monotonic=9.0, wall=1004.0)"


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_go_back(seconds: float) -> None:
    """A negative advance is an error, and moves nothing."""
    clock = FakeClock()
    before = clock.monotonic(), clock.time()
    with pytest.raises(ValueError, match="cannot pass"):
        clock.advance(seconds)
    assert (clock.monotonic(), clock.time()) == before


def test_the_wall_clock_may_be_set() -> None:
    """It may go back, as real ones do; monotonic time does not notice."""
    clock = FakeClock()
    before = clock.monotonic()
    clock.set_wall(12)
    assert (clock.monotonic(), clock.time()) == (before, 12)


def test_something_can_happen_while_somebody_sleeps() -> None:
    """The function is called with the time at which the sleep ends."""
    moments: list[float] = []
    clock = FakeClock(monotonic=10, on_sleep=moments.append)
    clock.sleep(1)
    clock.advance(1)
    clock.sleep(3)
    assert moments == [11, 15]
