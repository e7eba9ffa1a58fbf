"""A scheduled run that is cut off and restored decides what it would have decided uncut.

Who was stopped after which epoch, who copied whom and with which config: all of it shows in the
statuses, configs and weights of the trials.
"""

from __future__ import annotations

from typing import Any

import pytest
from chaos import schedules
from chaos.moments import Moment
from chaos.ordeal import Ordeal

#: Save the state of the scheduler at every step, or at the start only.
CADENCES = {"always": "0", "once": "100000"}


def check(place: Any, scenario: str, cadence: str, cuts: int = 0) -> None:
    """Cut a run at ``cuts`` of its journal's records, or at all of them."""
    env = {"TUNE_GLOBAL_CHECKPOINT_S": CADENCES[cadence]}

    def ordeal(name: str) -> Ordeal:
        return Ordeal(type(place)(place.path / name), scenario, schedules.__file__)

    whole = ordeal("uncut")
    uncut = whole.fit(**env)
    assert uncut.told is not None, whole
    assert {status for status, *_ in uncut.told} == {"TERMINATED"}
    untouched = [weights == [c["rate"]] * c["epochs"] for _, c, _, weights in uncut.told]
    assert not all(untouched), "the scheduler has decided nothing"
    total = uncut.events["append"]
    points = range(1, total + 1)
    if cuts:
        points = [1 + (2 * number + 1) * total // (2 * cuts) for number in range(cuts)]
    wrong = []
    for at in points:
        cut = ordeal(f"cut-{at}")
        cut.fit(Moment("append", at), **env)
        restored = cut.restore(**env)
        if restored.told is None or restored.told != uncut.told:
            wrong.append(f"cut at record {at} of {total}: not {uncut.told}\n{cut}")
    assert not wrong, f"{len(wrong)} of {len(points)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("scenario", schedules.SCHEDULES)
@pytest.mark.always("asha", "hyperband", "pbt")
def test_cut_in_the_middle(scenario: str, place: Any) -> None:
    """Each scheduler goes on exactly, from its first state and the records since."""
    check(place, scenario, "once", cuts=2)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("scenario", schedules.SCHEDULES)
def test_cut_everywhere(scenario: str, cadence: str, place: Any) -> None:
    """Cut before each record of the journal, it goes on exactly."""
    check(place, scenario, cadence)
