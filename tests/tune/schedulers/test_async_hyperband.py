"""ASHA, decision by decision."""

from __future__ import annotations

import logging
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import Stage
from hypothesis import given
from hypothesis import strategies as st

from milepost.tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
)
from milepost.tune.schedulers.rungs import Bracket, quantile

NAN, INF = math.nan, math.inf


def asha(**options: Any) -> ASHAScheduler:
    return ASHAScheduler(metric="acc", mode="max", **options)


def milestones(bracket: Bracket) -> list[float]:
    return [rung.milestone for rung in bracket]


def test_names() -> None:
    """Both names are the same class, which starts trials as FIFO does."""
    assert ASHAScheduler is AsyncHyperBandScheduler
    assert issubclass(ASHAScheduler, FIFOScheduler)


@pytest.mark.parametrize(
    ("grace", "max_t", "factor", "number", "expected"),
    [
        (1, 100, 4, 0, [64, 16, 4, 1]),
        (1, 100, 4, 1, [64, 16, 4]),
        (3, 81, 3, 0, [81, 27, 9, 3]),
        (5, 5, 2, 0, [5]),
        (1, 10, 2.5, 0, [6.25, 2.5, 1]),
        (10, 20, 4, 3, []),
    ],
)
def test_milestones(
    grace: int, max_t: int, factor: float, number: int, expected: list[float]
) -> None:
    """Each is the factor times the one below it; each further bracket leaves out the lowest."""
    assert milestones(Bracket(grace, max_t, factor, number)) == expected


@pytest.mark.parametrize(
    ("factor", "scores", "stopped"),
    [
        # first passes; cutoff is that of those before, so a worse second is stopped
        (2, [5, 4], [False, True]),
        # a tie with the cutoff passes
        (2, [5, 5, 5], [False, False, False]),
        # cutoff between [4, 5] is 4.5: 4.5 ties, then [4, 4.5, 5] -> 4.5
        (2, [5, 4, 4.5, 4.4], [False, True, False, True]),
        # factor 4 interpolates at 75 %: [1, 2, 3, 4] -> 3.25
        (4, [4, 3, 2, 1, 3.24], [False, True, True, True, True]),
        (4, [1, 2, 3, 4, 3.25], [False, False, False, False, False]),
        # NaN passes, also as the first, and others are not compared with it
        (2, [NAN, 1, NAN, 0, 1], [False, False, False, True, False]),
        # those that diverged count as the worst
        (2, [-INF, -INF, 1, -INF, 0.5], [False, False, False, False, False]),
        (2, [1, -INF, -INF], [False, True, False]),
        (2, [INF, 1, INF, 2], [False, True, False, True]),
    ],
)
def test_one_rung(factor: float, scores: list[float], stopped: list[bool]) -> None:
    """A score strictly below the cutoff of those recorded before is stopped; all are recorded."""
    stage = Stage(asha(max_t=10, grace_period=1, reduction_factor=factor))
    for number, (score, stops) in enumerate(zip(scores, stopped, strict=True)):
        stage.add(str(number))
        stage.trials[str(number)].status = "RUNNING"
        expected = "STOP" if stops else "CONTINUE"
        assert stage.result(str(number), 1, acc=score) == expected, number


def test_less_is_better() -> None:
    """With mode "min" the sign is turned."""
    stage = Stage(ASHAScheduler(metric="loss", mode="min", reduction_factor=2), "a", "b", "c")
    assert stage.result("a", loss=1) == "CONTINUE"
    assert stage.result("b", loss=2) == "STOP"
    assert stage.result("c", loss=0.5) == "CONTINUE"


def test_the_highest_rung_first_then_those_that_were_skipped() -> None:
    """A jump is judged at the highest milestone reached; later results fill the lower ones."""
    scheduler = asha(max_t=100, reduction_factor=4)
    stage = Stage(scheduler, "a", "b")
    assert stage.result("a", 17, acc=1.0) == "CONTINUE"
    rungs = scheduler._brackets[0].rungs
    assert [rung.has("a") for rung in rungs] == [False, True, False, False]
    assert stage.result("a", 18, acc=0.5) == "CONTINUE"
    assert [rung.has("a") for rung in rungs] == [False, True, True, False]
    assert rungs[2].cutoff(0.25) == 0.5, "with the later score"
    assert stage.result("b", 4, acc=0.4) == "STOP"


def test_without_stopping_the_last_trials() -> None:
    """They run past max_t, and rungs that were skipped stay as they are."""
    scheduler = asha(max_t=16, reduction_factor=4, stop_last_trials=False)
    stage = Stage(scheduler, "a")
    assert stage.result("a", 5, acc=1) == "CONTINUE"
    assert stage.result("a", 6, acc=1) == "CONTINUE"
    assert stage.result("a", 16, acc=1) == "CONTINUE"
    assert stage.result("a", 99, acc=1) == "CONTINUE"
    assert [rung.has("a") for rung in scheduler._brackets[0]] == [True, True, False]


def test_the_end_of_time() -> None:
    """A trial at max_t is stopped whatever its score; its last result is recorded once more."""
    scheduler = asha(max_t=4, reduction_factor=2)
    stage = Stage(scheduler, "a")
    for _ in range(3):
        assert stage.result("a", acc=1) == "CONTINUE"
    assert stage.result("a", acc=2) == "STOP"
    assert scheduler._brackets[0].rungs[0].cutoff(0.5) == 2
    assert not scheduler._bracket_of


@pytest.mark.parametrize("row", [{}, {"loss": 1}])
def test_without_the_metric(row: dict[str, Any]) -> None:
    """A result that lacks the metric decides nothing and is not recorded."""
    scheduler = asha()
    stage = Stage(scheduler, "a")
    assert stage.result("a", 5, **row) == "CONTINUE"
    assert not any(len(rung) for rung in scheduler._brackets[0])


def test_without_the_time() -> None:
    """Nor does one without its time; a time that is NaN has come nowhere."""
    scheduler = asha(time_attr="epoch")
    stage = Stage(scheduler, "a")
    assert stage.result("a", acc=1) == "CONTINUE"
    assert stage.result("a", acc=1, epoch=NAN) == "CONTINUE"
    assert not any(len(rung) for rung in scheduler._brackets[0])


@pytest.mark.parametrize("kind", [ASHAScheduler, MedianStoppingRule])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "akc"}, r"'akc' .*trial a reported.*Did you mean 'acc'"),
        ({"metric": "acc", "time_attr": "training_iter"}, "'training_iter'.*'training_iteration'"),
        ({}, r"'_metric'.*No metric was given to TuneConfig or"),
    ],
)
def test_what_is_missing_is_told_once(
    kind: Any, options: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A misspelt name would compare nothing in silence; copies and restored ones know of it."""
    scheduler = kind(**{"time_attr": "training_iteration", **options})
    scheduler.set_search_properties(None, "max")
    restored = kind("training_iteration")
    with caplog.at_level(logging.WARNING, "milepost.tune"):
        stage = Stage(scheduler, "a", "b")
        for trial_id in "abab":
            assert stage.result(trial_id, acc=1) == "CONTINUE"
        scheduler.save(str(tmp_path / "state"))
        restored.restore(str(tmp_path / "state"))
        for copied in (restored, pickle.loads(pickle.dumps(scheduler))):
            assert Stage(copied, "c").result("c", acc=1) == "CONTINUE"
    assert re.search(f"^{scheduler.__class__.__name__} needs {says}", caplog.messages[0])
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("value", [None, "0.3", [1]])
def test_a_metric_that_is_no_number(value: Any) -> None:
    """It is an error that names the trial, the metric and the value."""
    stage = Stage(asha(), "a")
    with pytest.raises(TypeError, match=r"trial a reported acc=.*float\('nan'\)"):
        stage.result("a", acc=value)


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), True, 10**400])
def test_numbers_of_all_kinds(value: Any) -> None:
    """Whatever can be taken for a float is a score."""
    stage = Stage(asha(), "a")
    assert stage.result("a", acc=value) == "CONTINUE"


@pytest.mark.parametrize(
    "options",
    [
        {"max_t": 0},
        {"grace_period": 0},
        {"max_t": 5, "grace_period": 6},
        {"reduction_factor": 1},
        {"brackets": 0},
        {"mode": "best"},
        {"max_t": NAN},
        {"max_t": INF},
    ],
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    """Each is refused by name, with the error of Ray and the usual one."""
    name = list(options)[-1]
    with pytest.raises(AssertionError, match=f"ASHA|AsyncHyperBandScheduler.{name}"):
        ASHAScheduler(**options)
    with pytest.raises(ValueError, match="must be"):
        ASHAScheduler(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((ASHAScheduler, {name: "10"}) for name in ("max_t", "grace_period", "reduction_factor")),
        *((ASHAScheduler, {"brackets": value}) for value in (1.5, "1", None)),
        (ASHAScheduler, {"max_t": None}),
        *((HyperBandScheduler, {name: "10"}) for name in ("max_t", "reduction_factor")),
        (HyperBandForBOHB, {"max_t": True}),
        (MedianStoppingRule, {"grace_period": "1"}),
        (MedianStoppingRule, {"min_samples_required": [3]}),
    ],
)
def test_arguments_that_are_no_numbers(kind: Any, options: dict[str, Any]) -> None:
    """Each is refused by name and value, whatever else is right."""
    ((name, value),) = options.items()
    with pytest.raises(
        TypeError, match=rf"{name}.* must be a .*number, got {re.escape(repr(value))}"
    ):
        kind(**options)


@pytest.mark.parametrize("options", [{}, {"metric": "acc"}, {"mode": "max"}])
def test_nothing_to_compare_by(options: dict[str, Any]) -> None:
    """Metric and mode must be known when the first trial comes; mode alone is enough in a run."""
    with pytest.raises(ValueError, match="TuneConfig"):
        Stage(ASHAScheduler(**options), "a")


def test_metric_and_mode_of_the_run() -> None:
    """They are taken over unless there are some already; without a metric it is `_metric`."""
    scheduler = ASHAScheduler()
    assert scheduler.set_search_properties("loss", "min")
    assert scheduler.metric == "loss"
    assert not scheduler.set_search_properties("loss", "min")
    assert not scheduler.set_search_properties(None, "min")
    assert scheduler.set_search_properties(None, None)
    anonymous = ASHAScheduler()
    assert anonymous.set_search_properties(None, "min")
    assert anonymous.metric == "_metric"
    own_mode = ASHAScheduler(mode="max")
    assert own_mode.set_search_properties("acc", None)
    assert own_mode.metric == "acc"


def test_brackets() -> None:
    """Trials are put into brackets at random, alike in each run, by the number of rungs."""

    def drawn() -> list[int]:
        scheduler = asha(max_t=100, brackets=3)
        stage = Stage(scheduler, *map(str, range(1000)))
        return [scheduler._bracket_of[trial_id] for trial_id in stage.trials]

    first = drawn()
    assert first == drawn()
    shares = [first.count(number) / 1000 for number in range(3)]
    expected = np.exp([4, 3, 2]) / np.exp([4, 3, 2]).sum()
    assert shares == pytest.approx(expected, abs=0.05)


def test_failures() -> None:
    """A trial that is tried again keeps bracket and rungs; what a failed one did stays."""
    scheduler = asha(max_t=64, brackets=3)
    stage = Stage(scheduler, *map(str, range(20)))
    before = dict(scheduler._bracket_of)
    for trial_id in stage.trials:
        stage.result(trial_id, 16, acc=1)
    for trial_id in stage.trials:
        stage.fail(trial_id, again=True)
    assert scheduler._bracket_of == before
    recorded = [len(rung) for bracket in scheduler._brackets for rung in bracket]
    for trial in stage.trials.values():
        trial.status = "RUNNING"
        assert stage.result(trial.trial_id, 16, acc=0) in ("CONTINUE", "STOP")
    for trial_id, trial in stage.trials.items():
        if not trial.is_finished():
            stage.fail(trial_id, again=False)
    assert not scheduler._bracket_of
    after = [len(rung) for bracket in scheduler._brackets for rung in bracket]
    assert all(now >= then for now, then in zip(after, recorded, strict=True))


def test_state(tmp_path: Path) -> None:
    """A restored scheduler decides, and puts trials into brackets, as the saved one does."""
    one, other = asha(brackets=3, reduction_factor=2), asha(brackets=3, reduction_factor=2)
    first = Stage(one, *map(str, range(30)))
    for trial_id in first.trials:
        first.result(trial_id, acc=int(trial_id) % 7)
    one.save(str(tmp_path / "state"))
    other.restore(str(tmp_path / "state"))
    decided = []
    for scheduler in (one, other):
        later = Stage(scheduler, *(f"x{number}" for number in range(30)))
        decided.append([later.result(trial_id, acc=3) for trial_id in later.trials])
    assert decided[0] == decided[1]
    assert {"STOP", "CONTINUE"} == set(decided[0])


def test_what_is_told() -> None:
    """The line for the display has the number of stopped trials and the rungs."""
    scheduler = asha(max_t=4, reduction_factor=2)
    stage = Stage(scheduler, "a", "b")
    stage.result("a", acc=2)
    stage.result("b", acc=1)
    assert scheduler.debug_string() == (
        "Using AsyncHyperBand: num_stopped=1\n"
        "Bracket: Iter 4.000: None | Iter 2.000: None | Iter 1.000: 1.5"
    )


finite = st.floats(-1e9, 1e9)


@given(st.lists(finite, min_size=1, max_size=40), st.sampled_from([2, 3, 4, 1.5, 10, 7 / 3]))
def test_cutoffs_are_those_of_numpy(scores: list[float], factor: float) -> None:
    """To the last bit, so that ties are decided alike."""
    expected = np.nanpercentile(scores, (1 - 1 / factor) * 100)
    assert quantile(sorted(scores), (1 - 1 / factor) * 100 / 100) == expected


any_score = st.floats() | st.none()


@given(
    st.lists(st.tuples(st.integers(0, 9), any_score, st.booleans()), max_size=200),
    st.integers(1, 4),
    st.booleans(),
)
def test_asha_as_published(
    events: list[tuple[int, float | None, bool]], factor: int, stops_last: bool
) -> None:
    """Against the rule written down anew: any order of trials, scores and failures."""
    factor += 1
    scheduler = asha(max_t=27, reduction_factor=factor, stop_last_trials=stops_last)
    stage = Stage(scheduler, *map(str, range(10)))
    levels = milestones(scheduler._brackets[0])
    came: dict[float, dict[str, float]] = {level: {} for level in levels}
    for number, score, fails in events:
        trial_id = str(number)
        trial = stage.trials[trial_id]
        if trial.is_finished():
            continue
        if fails:
            stage.fail(trial_id, again=True)
            trial.status, trial.time = "RUNNING", max(0, trial.time - 2)
            continue
        now = trial.time + 1
        expected = "CONTINUE"
        missing = score is None
        last = stops_last and now >= 27
        if not missing and last:
            expected = "STOP"
        elif not missing:
            for level in levels:
                if now >= level and (trial_id not in came[level] or not stops_last):
                    if trial_id not in came[level]:
                        others = [x for x in came[level].values() if not math.isnan(x)]
                        if others and score < _cutoff(others, factor):
                            expected = "STOP"
                        came[level][trial_id] = score
                    break
        row = {} if missing else {"acc": score}
        assert stage.result(trial_id, **row) == expected
        if expected == "STOP":  # its last result counts once more
            for level in levels:
                if now >= level and (trial_id not in came[level] or not stops_last):
                    came[level].setdefault(trial_id, score)
                    break


def _cutoff(scores: list[float], factor: int) -> float:
    if all(math.isfinite(score) for score in scores):
        return float(np.percentile(scores, (1 - 1 / factor) * 100))
    return quantile(sorted(scores), (1 - 1 / factor) * 100 / 100)
