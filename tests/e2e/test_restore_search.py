"""A search that is cut off and restored proposes what it would have proposed uncut.

One trial runs at a time, so that results come in one order only.
"""

from __future__ import annotations

from typing import Any

import pytest
from chaos import searches
from chaos.moments import Moment
from chaos.ordeal import Ordeal

#: Save the state of the search at every step, or at the start only.
CADENCES = {"always": "0", "once": "100000"}


def ordeal(place: Any, name: str, scenario: str) -> Ordeal:
    """A run in a place of its own."""
    return Ordeal(type(place)(place.path / name), scenario, searches.__file__)


def check(
    place: Any, scenario: str, cadence: str, ahead: str, *, cuts: int = 0, points: Any = ()
) -> None:
    """Cut a search at some of its journal's records: at ``points``, ``cuts`` of them, or at all."""
    env = {"TUNE_GLOBAL_CHECKPOINT_S": CADENCES[cadence], "TUNE_MAX_PENDING_TRIALS_PG": ahead}
    whole = ordeal(place, "uncut", scenario)
    uncut = whole.fit(**env)
    assert uncut.told is not None, whole
    assert len(uncut.told) == searches.TRIALS
    total = uncut.events["append"]
    if cuts:
        points = [1 + (2 * number + 1) * total // (2 * cuts) for number in range(cuts)]
    wrong = []
    for at in points or range(1, total + 1):
        cut = ordeal(place, f"cut-{at}", scenario)
        cut.fit(Moment("append", at), **env)
        restored = cut.restore(**env)
        if restored.told is None or restored.told != uncut.told:
            wrong.append(f"cut at record {at} of {total}: not {uncut.told}\n{cut}")
    assert not wrong, "\n".join(wrong)


#: These stand for their kinds.
KINDS = ("seeded", "grid", "learning", "limited", "optuna")


@pytest.mark.parametrize("scenario", searches.EXACT)
@pytest.mark.always("seeded")
def test_cut_in_the_middle(scenario: str, place: Any) -> None:
    """Each kind of search goes on exactly, from its first state and the records since."""
    check(place, scenario, "once", "1", cuts=1)


@pytest.mark.chaos
def test_cut_before_the_first_trial(place: Any) -> None:
    """What the global random generators hold counts from the first record that can be restored."""
    check(place, "global", "once", "1", points=(2, 3, 4))


@pytest.mark.chaos
@pytest.mark.parametrize("scenario", ["seeded", "learning"])
def test_cut_after_a_saved_state(scenario: str, place: Any) -> None:
    """It goes on exactly from a state that was saved shortly before."""
    check(place, scenario, "always", "1", cuts=2)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("scenario", "cadence", "ahead"),
    [
        (scenario, cadence, ahead)
        for scenario in searches.EXACT
        for cadence in CADENCES
        for ahead in ("1", "auto")
        # How often states are saved, and how many trials are proposed ahead, is seen with a few.
        if scenario in KINDS or (cadence, ahead) == ("once", "1")
    ],
)
def test_cut_everywhere(scenario: str, cadence: str, ahead: str, place: Any) -> None:
    """Cut before each record of the journal, the search goes on exactly."""
    check(place, scenario, cadence, ahead)


def test_a_searcher_that_cannot_be_saved(place: Any) -> None:
    """The run comes to its end with the right number of trials, and says what it cannot know."""
    cut = ordeal(place, "cut", "forgetful")
    cut.fit(Moment("line", searches.TRIALS))
    before = cut.phases[-1]
    assert "Climbing has no save()" in before.output
    restored = cut.restore()
    assert restored.told is not None, cut
    assert len(restored.told) == searches.TRIALS
    assert "Climbing" in restored.output
    begun = [entry for entry in cut.entries(restored) if entry.what == "begin"]
    assert len(begun) < searches.TRIALS * searches.EPOCHS
