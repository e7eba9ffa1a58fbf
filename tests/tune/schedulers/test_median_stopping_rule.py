"""The median stopping rule, decision by decision."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from acting import Stage
from hypothesis import given
from hypothesis import strategies as st

from milepost.tune.schedulers import MedianStoppingRule

NAN, INF = math.nan, math.inf


def rule(**options: Any) -> MedianStoppingRule:
    defaults = {"time_attr": "training_iteration", "grace_period": 1, "min_samples_required": 1}
    return MedianStoppingRule(metric="acc", mode="max", **{**defaults, **options})


def feed(stage: Stage, trial_id: str, *scores: float) -> list[str]:
    return [stage.result(trial_id, acc=score) for score in scores]


def test_the_best_so_far_against_the_median_of_the_averages() -> None:
    """Averages of the others count up to the trial's own time; only strictly worse is stopped."""
    stage = Stage(rule(min_samples_required=3), *"abcdef")
    for trial_id, scores in {"a": (1, 3, 99), "b": (2, 4, 99), "c": (3, 5, 99)}.items():
        feed(stage, trial_id, *scores)
    # averages at 1: 1, 2, 3; at 2: 2, 3, 4; at 3 they would be far higher
    assert feed(stage, "d", 2, 3) == ["CONTINUE", "CONTINUE"]
    assert feed(stage, "e", 2.5, 2.7) == ["CONTINUE", "STOP"]  # below 2.75, with d
    assert feed(stage, "f", 1.9) == ["STOP"]


def test_the_best_result_of_the_trial_counts() -> None:
    """It may have been before the grace period, and the current one be bad."""
    stage = Stage(rule(grace_period=2), "a", "b")
    feed(stage, "a", 0, 5, 5)
    assert feed(stage, "b", 6, 0, 0) == ["CONTINUE"] * 3


@pytest.mark.parametrize(
    "options", [{"grace_period": -1}, {"min_samples_required": 0}, {"min_time_slice": -2}]
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    """Each is refused by name."""
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"MedianStoppingRule\({name}=.*got {value}"):
        rule(**options)


def test_less_is_better() -> None:
    """With mode "min" the sign is turned."""
    scheduler = MedianStoppingRule(
        "training_iteration", "loss", "min", grace_period=1, min_samples_required=1
    )
    stage = Stage(scheduler, "a", "b", "c")
    assert stage.result("a", loss=2) == "CONTINUE"
    assert stage.result("b", loss=3) == "STOP"
    assert stage.result("c", loss=1) == "CONTINUE"


def test_the_grace_period() -> None:
    """Nothing is stopped before it, and what was reported before it is in no average."""
    stage = Stage(rule(grace_period=3), "a", "b")
    feed(stage, "a", 100, 100, 1, 1)
    assert feed(stage, "b", 0, 0) == ["CONTINUE", "CONTINUE"]
    assert feed(stage, "b", 1) == ["CONTINUE"]
    stage.add("c")
    stage.trials["c"].status = "RUNNING"
    assert feed(stage, "c", 0, 0, 0) == ["CONTINUE", "CONTINUE", "STOP"]


def test_only_those_that_have_come_as_far_are_compared_with() -> None:
    """By their last result: running, finished, stopped and failed ones."""
    stage = Stage(rule(min_samples_required=2), *"abcd")
    feed(stage, "a", 5, 5, 5)
    feed(stage, "b", 5, 5, 5)
    stage.end("a", {"training_iteration": 4, "acc": 5})
    stage.fail("b", again=False)
    assert feed(stage, "c", 5, 5, 5) == ["CONTINUE"] * 3
    assert feed(stage, "d", 5, 5, 5, 0, 0) == ["CONTINUE"] * 5, "only one has come to 4"
    assert feed(stage, "c", 5) == ["CONTINUE"]
    stage.add("e")
    stage.trials["e"].status = "RUNNING"
    assert feed(stage, "e", 4) == ["STOP"]


def test_a_last_result_that_only_the_end_tells() -> None:
    """A criterion stops a trial before the scheduler sees the result: it counts all the same."""
    stage = Stage(rule(), "a", "b")
    stage.end("a", {"training_iteration": 1, "acc": 5})
    assert feed(stage, "b", 4) == ["STOP"]


def test_a_last_result_counts_once() -> None:
    """A function's last result is told twice, and is one."""
    stage = Stage(rule(), "a", "b")
    feed(stage, "a", 0, 4)
    stage.end("a", {"training_iteration": 2, "acc": 4})
    assert feed(stage, "b", 1.5, 2) == ["CONTINUE", "CONTINUE"], "the average is 2, not 2.67"


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_averages_that_are_not_finite(bad: float) -> None:
    """They are left out, so that there may be too few to decide."""
    stage = Stage(rule(min_samples_required=1), "a", "b", "c")
    feed(stage, "a", bad)
    assert feed(stage, "b", 1) == ["CONTINUE"]
    assert feed(stage, "c", 0) == ["STOP"], "compared with b alone"


def test_nan_of_the_trial_itself() -> None:
    """It is not its best, and with nothing else it goes on; one that diverged is stopped."""
    stage = Stage(rule(), "a", "b", "c", "d")
    feed(stage, "a", 1, 1)
    assert feed(stage, "b", NAN) == ["CONTINUE"]
    assert feed(stage, "c", NAN, 0.5) == ["CONTINUE", "STOP"]
    assert feed(stage, "d", -INF) == ["STOP"]


def test_missing_values() -> None:
    """A result without metric or time decides nothing and is not kept."""
    scheduler = rule()
    stage = Stage(scheduler, "a")
    assert stage.result("a") == "CONTINUE"
    assert not scheduler._courses
    stage.end("a", {"training_iteration": 1})
    assert not scheduler._courses


def test_giving_way() -> None:
    """With too few to compare with, a trial pauses if another one waits, once in a time slice."""
    stage = Stage(rule(min_samples_required=5, min_time_slice=2), "a", "b")
    assert feed(stage, "a", 1) == ["CONTINUE"], "nobody waits"
    stage.add("c")
    assert feed(stage, "a", 1) == ["PAUSE"]
    stage.settle()
    assert stage.choose() == "c"
    assert feed(stage, "b", 1) == ["PAUSE"], "a waits"
    stage.settle()
    assert [stage.choose(), stage.choose()] == ["a", "b"]
    stage.add("d")
    assert feed(stage, "a", 1, 1, 1) == ["CONTINUE", "CONTINUE", "PAUSE"]


def test_pausing_instead_of_stopping() -> None:
    """With hard_stop=False a bad trial pauses once, goes on, and is judged no more."""
    stage = Stage(rule(hard_stop=False), "a", "b", "c")
    feed(stage, "a", 5, 5, 5)
    assert feed(stage, "b", 1) == ["PAUSE"]
    stage.settle()
    assert stage.choose() == "b"
    assert feed(stage, "b", 0, 0) == ["CONTINUE", "CONTINUE"]


def test_time_that_goes_back() -> None:
    """A trial that is tried again reports earlier times once more; averages take both in."""
    stage = Stage(rule(), "a", "b")
    feed(stage, "a", 1, 2, 3)
    stage.fail("a", again=True)
    stage.trials["a"].status, stage.trials["a"].time = "RUNNING", 1
    assert stage.scheduler._averages("b", 3) == [2]
    feed(stage, "a", 6)
    assert stage.scheduler._averages("b", 3) == [], "it is at 2 again"
    assert stage.scheduler._averages("b", 2) == [3]
    assert stage.scheduler._averages("b", 1) == [1]
    feed(stage, "a", 0)
    assert stage.scheduler._averages("b", 3) == [2.4]


def test_state(tmp_path: Path) -> None:
    """A restored rule decides as the saved one does."""
    one, other = rule(hard_stop=False), rule(hard_stop=False)
    stage = Stage(one, *"abc")
    feed(stage, "a", 1, 2, 3)
    feed(stage, "b", 0)
    one.save(str(tmp_path / "state"))
    other.restore(str(tmp_path / "state"))
    for scheduler in (one, other):
        later = Stage(scheduler, "d", "b")
        assert feed(later, "d", 1, 1.4) == ["CONTINUE", "PAUSE"]
        assert feed(later, "b", 0) == ["CONTINUE"]
    assert one.debug_string() == other.debug_string()
    assert "num_stopped=2" in one.debug_string()


score = st.floats(-10, 10) | st.sampled_from([NAN, INF, -INF])


@given(
    st.lists(st.tuples(st.integers(0, 5), score | st.none()), max_size=80),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_the_rule_as_published(
    events: list[tuple[int, float | None]], needs: int, grace: int
) -> None:
    """Against the rule written down anew, in any order of results."""
    stage = Stage(rule(min_samples_required=needs, grace_period=grace), *map(str, range(6)))
    told: dict[str, list[tuple[int, float]]] = {trial_id: [] for trial_id in stage.trials}
    for number, value in events:
        trial = stage.trials[str(number)]
        if trial.is_finished():
            continue
        if value is None:
            assert stage.result(trial.trial_id) == "CONTINUE"
            continue
        own = told[trial.trial_id]
        own.append((trial.time + 1, value))
        averages = []
        for other, rows in told.items():
            if other != trial.trial_id and rows and rows[-1][0] >= trial.time + 1:
                counted = [v for t, v in rows if grace <= t <= trial.time + 1]
                if counted and math.isfinite(sum(counted)):
                    averages.append(sum(counted) / len(counted))
        values = [v for _, v in own if not math.isnan(v)]
        bad = (
            trial.time + 1 >= grace
            and len(averages) >= needs
            and values
            and max(values) < statistics.median(averages)
        )
        assert stage.result(trial.trial_id, acc=value) == ("STOP" if bad else "CONTINUE")
