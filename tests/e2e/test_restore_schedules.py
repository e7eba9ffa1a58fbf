"""A scheduled run that is cut off and restored decides what it would have decided uncut.

Who was stopped after which epoch, who copied whom and with which config: all of it shows in the
statuses, configs and weights of the trials.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos import schedules
from chaos.moments import Moment
from chaos.ordeal import Ordeal

#: Save the state of the scheduler at every step, or at the start only.
CADENCES = {"always": "0", "once": "100000"}


Records = list[dict[str, Any]]


def everywhere(journal: Records) -> list[int]:
    """At each record of the journal."""
    return list(range(1, len(journal)))


def in_the_middle(journal: Records) -> list[int]:
    """At two records, far from each other."""
    return [1 + len(journal) // 4, 1 + 3 * len(journal) // 4]


def where_one_starts_over(journal: Records) -> list[int]:
    """Before the first report of a trial that was paused without a checkpoint, and goes on."""
    paused = {each["trial"] for each in journal if each.get("status") == "PAUSED"}
    begins = [
        number
        for number, each in enumerate(journal)
        if each["type"] == "launched"
        and each["trial"] in paused
        and each["attempt"]
        and not each["checkpoint"]
    ]
    assert begins, "no trial has started over"
    # After it was taken up, after its start was written down, and after it ran.
    return [begins[0] + more for more in (0, 1, 2)]


def check(
    place: Any,
    scenario: str,
    cadence: str,
    where: Callable[[Records], list[int]] = everywhere,
) -> None:
    """Cut a run before the records of its journal with these numbers, from 0."""
    env = {"TUNE_GLOBAL_CHECKPOINT_S": CADENCES[cadence]}

    def ordeal(name: str) -> Ordeal:
        return Ordeal(type(place)(place.path / name), scenario, schedules.__file__)

    whole = ordeal("uncut")
    uncut = whole.fit(**env)
    assert uncut.told is not None, whole
    assert {status for status, *_ in uncut.told} == {"TERMINATED"}
    untouched = [weights == [c["rate"]] * c["epochs"] for _, c, _, weights in uncut.told]
    assert not all(untouched), "the scheduler has decided nothing"
    text = Path(whole.experiment, ".milepost", "journal", "00000001.jsonl").read_text()
    journal = [json.loads(line) for line in text.splitlines()]
    points = where(journal)
    wrong = []
    for at in points:
        cut = ordeal(f"cut-{at}")
        cut.fit(Moment("append", at + 1), **env)
        restored = cut.restore(**env)
        if restored.told is None or restored.told != uncut.told:
            wrong.append(f"cut before record {at} of {len(journal)}: not {uncut.told}\n{cut}")
    assert not wrong, f"{len(wrong)} of {len(points)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("scenario", schedules.SCHEDULES)
@pytest.mark.always("pbt")
def test_cut_in_the_middle(scenario: str, place: Any) -> None:
    """Each scheduler goes on exactly, from its first state and the records since."""
    check(place, scenario, "once", in_the_middle)


@pytest.mark.chaos
@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.timeout(600)
def test_cut_where_a_trial_starts_over(cadence: str, place: Any) -> None:
    """Its results are judged again then, as they would have been."""
    check(place, "median", cadence, where_one_starts_over)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("scenario", schedules.SCHEDULES)
def test_cut_everywhere(scenario: str, cadence: str, place: Any) -> None:
    """Cut before each record of the journal, it goes on exactly."""
    check(place, scenario, cadence)
