"""Experiments of very many trials."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from chaos import many
from chaos.moments import Moment
from chaos.ordeal import Ordeal


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trials", [200, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_killed_near_the_end(trials: int, place: Any) -> None:
    """The last trials run after the restore, and only those."""
    ordeal = Ordeal(place, str(trials), many.__file__)
    assert ordeal.fit(Moment("hook", trials * 9 // 10)).come
    phase = ordeal.restore()
    assert phase.told == [trials, trials * (trials - 1) // 2, trials - 1], ordeal
    executed = Counter(entry.x for entry in ordeal.entries())
    assert executed.keys() == set(range(trials))
    # A trial without a checkpoint starts again if it had not ended.
    assert [x for x, times in executed.items() if times > 1][2:] == []
    assert len(ordeal.entries(phase)) <= trials // 10 + 3
