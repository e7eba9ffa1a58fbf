"""HyperBand and its variant for BOHB, decision by decision."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest
from acting import Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from milepost.tune.schedulers import HyperBandForBOHB, HyperBandScheduler
from milepost.tune.schedulers.halving import HalvingBracket

NAN = math.nan


def hyperband(
    kind: type[HyperBandScheduler] = HyperBandScheduler, **options: Any
) -> HyperBandScheduler:
    return kind(metric="acc", mode="max", **options)


def shapes(scheduler: HyperBandScheduler) -> list[tuple[int, float]]:
    """Size and first milestone of the brackets of one band, as they are filled."""
    found: list[tuple[int, float]] = []
    stage = Stage(scheduler)
    while len(scheduler._bands) < 2:
        stage.add(f"trial{len(stage.trials)}")
        found = [(b.size, b.milestone) for b in scheduler._bands[0]]
    assert len(stage.trials) == sum(size for size, _ in found) + 1
    return found


@pytest.mark.parametrize(
    ("max_t", "factor", "expected"),
    [
        (81, 3, [(5, 81), (8, 27), (15, 9), (34, 3), (81, 1)]),
        (9, 3, [(3, 9), (5, 3), (9, 1)]),
        (1, 3, [(1, 1)]),
        (16, 4, [(3, 16), (6, 4), (16, 1)]),
        (243, 3, [(6, 243), (9, 81), (18, 27), (41, 9), (98, 3), (243, 1)]),
        (50, 3, [(5, 50), (8, 16), (15, 5), (34, 1)]),  # a fifth would begin below 1
    ],
)
def test_brackets(max_t: int, factor: int, expected: list[tuple[int, int]]) -> None:
    """Sizes and first milestones are those of the paper; a full band opens another one."""
    assert shapes(hyperband(max_t=max_t, reduction_factor=factor)) == expected
    mirrored = hyperband(HyperBandForBOHB, max_t=max_t, reduction_factor=factor)
    assert shapes(mirrored) == expected[::-1], "the largest first"


@pytest.mark.parametrize(
    ("max_t", "factor", "halvings", "rounds"),
    [
        (81, 3, 4, [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]),
        (100, 3, 4, [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]),
        (10, 2.5, 2, [(7, 1), (3, 2), (2, 5)]),
        (4, 1.5, 3, [(4, 1), (3, 2), (2, 3), (2, 4)]),
    ],
)
def test_rounds(max_t: int, factor: float, halvings: int, rounds: list[tuple[int, int]]) -> None:
    """Each halving keeps one in so many, rounded up, and sends them so many times as far."""
    size, milestone = rounds[0]
    bracket = HalvingBracket(size, milestone, halvings, factor, max_t, ends=True)
    for number in range(size):
        bracket.add(str(number))
    for kept, milestone in rounds:
        assert (len(bracket), bracket.milestone) == (kept, milestone)
        for trial_id in bracket:
            bracket.note(trial_id, milestone, int(trial_id))
        out = bracket.drop()
        assert set(out) == {str(n) for n in range(size - kept, size - len(bracket))}
    assert bracket.is_over


def bracket_of_five(**options: Any) -> Stage:
    """Trials of a bracket with 5 places, milestone 3 and one halving; others run beside it."""
    stage = Stage(hyperband(max_t=9, **options), *"xyz", *"abcde")
    bracket = stage.scheduler._bracket_of["a"]
    assert (len(bracket), bracket.milestone, bracket.halvings) == (5, 3, 1)
    return stage


def reach(stage: Stage, trial_id: str, time: int, score: float) -> str:
    return stage.result(trial_id, time, acc=score)


def test_one_bracket() -> None:
    """All wait for the last one; the best 2 of 5 go on to the end and wait there again."""
    stage = bracket_of_five()
    assert stage.result("a", acc=9) == "CONTINUE"
    for trial_id, score in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        assert reach(stage, trial_id, 3, score) == "PAUSE"
    stage.settle()
    assert stage.choose() is None
    assert reach(stage, "e", 3, 2) == "STOP"
    assert {t: s for t, s in stage.statuses().items() if t in "abcde"} == {
        "a": "TERMINATED",
        "b": "PENDING",
        "c": "TERMINATED",
        "d": "PENDING",
        "e": "TERMINATED",
    }
    assert [stage.choose(), stage.choose(), stage.choose()] == ["b", "d", None]
    assert reach(stage, "b", 8, 5) == "CONTINUE"
    assert reach(stage, "b", 9, 5) == "PAUSE"
    stage.settle()
    assert reach(stage, "d", 9, 5) == "STOP"
    assert stage.trials["b"].status == "TERMINATED"
    assert len(stage.scheduler._bands[0]) == 1, "what is over is forgotten"
    assert "num_stopped=5 total_brackets=1" in stage.scheduler.debug_string()


def test_the_last_to_come_may_go_on() -> None:
    """If it is among the best it does not pause at all."""
    stage = bracket_of_five()
    for trial_id in "abcd":
        reach(stage, trial_id, 3, 1)
    stage.settle()
    assert reach(stage, "e", 3, 2) == "CONTINUE"
    assert stage.trials["d"].status == "PENDING", "of equals, those that joined last go on"
    assert stage.trials["c"].status == "TERMINATED"


def test_a_pause_that_has_not_settled() -> None:
    """Its checkpoint may still be on its way: a loser ends, a winner is chosen when it is there."""
    stage = bracket_of_five()
    for trial_id, score in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        reach(stage, trial_id, 3, score)
    assert reach(stage, "e", 3, 2) == "STOP"
    assert stage.trials["a"].status == "TERMINATED"
    assert stage.trials["b"].status == "RUNNING", "still pausing"
    assert stage.choose() is None
    stage.settle()
    assert stage.trials["b"].status == "PAUSED"
    assert {stage.choose(), stage.choose()} == {"b", "d"}


def test_nan_is_the_worst() -> None:
    """NaN never beats a number; if there is nothing else, as many go on as ever."""
    stage = bracket_of_five()
    for trial_id, score in {"a": NAN, "b": -1e300, "c": NAN, "d": NAN}.items():
        reach(stage, trial_id, 3, score)
    stage.settle()
    assert reach(stage, "e", 3, NAN) == "CONTINUE"
    assert {t for t in "abcde" if not stage.trials[t].is_finished()} == {"b", "e"}


def test_without_stopping_the_last_trials() -> None:
    """Those behind the last halving run on by themselves, and do not wait for each other."""
    stage = bracket_of_five(stop_last_trials=False)
    for trial_id in "abcd":
        reach(stage, trial_id, 3, 1)
    stage.settle()
    assert reach(stage, "e", 3, 2) == "CONTINUE"
    assert reach(stage, "e", 9, 2) == "CONTINUE"
    assert reach(stage, "e", 99, 2) == "CONTINUE"
    assert stage.choose() == "d"


def test_less_is_better() -> None:
    """With mode "min" the sign is turned."""
    scheduler = HyperBandScheduler(metric="loss", mode="min", max_t=9)
    stage = Stage(scheduler, *"xyz", *"abcde")
    for trial_id, loss in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        stage.result(trial_id, 3, loss=loss)
    assert stage.result("e", 3, loss=0) == "CONTINUE"
    assert {t for t in "abcd" if not stage.trials[t].is_finished()} == {"a"}


def test_pauses_without_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    """The first one of a function is told, since it may start over; classes save by themselves."""
    stage = bracket_of_five()
    with caplog.at_level(logging.WARNING, "milepost.tune"):
        assert stage.result("a", 2, acc=1, checkpoint_dir_name=None) == "CONTINUE"
        assert stage.result("a", 3, acc=1, checkpoint_dir_name="checkpoint_000003") == "PAUSE"
        assert stage.result("b", 3, acc=1) == "PAUSE"
        assert not caplog.messages
        for trial_id in "cd":
            stage.result(trial_id, 3, acc=1, checkpoint_dir_name=None)
    (told,) = caplog.messages
    assert "pauses trial c at training_iteration=3, and it reported no checkpoint" in told


@pytest.mark.parametrize("leaves", ["ends", "fails", "is stopped while it waits"])
def test_the_others_do_not_wait_for_one_that_has_gone(leaves: str) -> None:
    """A trial that ends, fails for good or is stopped was the last they waited for."""
    stage = bracket_of_five()
    for trial_id, score in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        reach(stage, trial_id, 3, score)
    stage.settle()
    if leaves == "ends":
        stage.end("e", {"training_iteration": 2, "acc": 99})
    elif leaves == "fails":
        stage.fail("e", again=False)
    else:
        stage.trials["e"].status = "PENDING"
        stage.end("e")
    assert {t for t in "abcd" if stage.trials[t].status == "PENDING"} == {"b", "d"}
    assert {t for t in "abcd" if stage.trials[t].is_finished()} == {"a", "c"}


def test_a_trial_that_is_tried_again_stays_where_it_is() -> None:
    """Its bracket waits for it, at the same milestone, though its time goes back."""
    stage = bracket_of_five()
    for trial_id, score in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        reach(stage, trial_id, 3, score)
    stage.settle()
    reach(stage, "e", 2, 9)
    bracket = stage.scheduler._bracket_of["e"]
    stage.fail("e", again=True)
    assert stage.scheduler._bracket_of["e"] is bracket
    assert stage.choose() == "e"
    assert reach(stage, "e", 1, 9) == "CONTINUE"
    assert reach(stage, "e", 3, 9) == "CONTINUE"


def test_a_trial_whose_pause_failed() -> None:
    """Its checkpoint was lost and it starts again behind the milestone: it is waited for."""
    stage = bracket_of_five()
    for trial_id, score in {"a": 1, "b": 5, "c": 3, "d": 4}.items():
        reach(stage, trial_id, 3, score)
    stage.settle(*"bcd")
    stage.fail("a", again=True)
    assert stage.choose() == "a"
    assert reach(stage, "a", 1, 1) == "CONTINUE"
    assert reach(stage, "e", 3, 2) == "PAUSE"
    assert reach(stage, "a", 3, 9) == "CONTINUE"
    assert not stage.trials["a"].is_finished()


def test_results_that_skip_milestones() -> None:
    """Winners that are past the next milestone already are compared there at once."""
    stage = Stage(hyperband(max_t=9), *"xyz", *"abcde", *"123456789")
    bracket = stage.scheduler._bracket_of["1"]
    assert (len(bracket), bracket.milestone) == (9, 1)
    decisions = [reach(stage, trial_id, 4, int(trial_id)) for trial_id in "123456789"]
    assert decisions == ["PAUSE"] * 8 + ["CONTINUE"]
    stage.settle()
    assert list(bracket) == ["9"]
    assert bracket.milestone == 9


def test_trials_that_come_late() -> None:
    """A bracket that has dropped trials takes no more: they would meet others far ahead."""
    stage = Stage(hyperband(max_t=9), *"xyz", "a", "b")
    reach(stage, "a", 3, 1)
    assert reach(stage, "b", 3, 2) == "CONTINUE"
    stage.add("c")
    assert stage.scheduler._bracket_of["c"] is not stage.scheduler._bracket_of["b"]
    assert stage.scheduler._bracket_of["c"].milestone == 1


def test_a_place_that_is_free_again() -> None:
    """Before the first comparison, another trial takes the place of one that has gone."""
    stage = bracket_of_five()
    stage.fail("a", again=False)
    stage.add("f")
    assert stage.scheduler._bracket_of["f"] is stage.scheduler._bracket_of["b"]


@pytest.mark.parametrize(
    ("row", "lacks"), [({"loss": 1}, "acc"), ({}, "acc"), ({"acc": 1, "epoch": 1}, "time")]
)
def test_missing_values(row: dict[str, Any], lacks: str) -> None:
    """The others would wait for ever: it is an error that names what is missing."""
    attribute = "time" if lacks == "time" else "training_iteration"
    stage = Stage(hyperband(time_attr=attribute), "a")
    with pytest.raises(KeyError, match=f"'{lacks}' in every result, and trial a") as raised:
        stage.result("a", **row)
    assert not str(raised.value).startswith("'")


def test_no_metric_at_all() -> None:
    """The error says that none was given, rather than that the default is missing."""
    scheduler = HyperBandScheduler()
    scheduler.set_search_properties(None, "max")
    with pytest.raises(KeyError, match=r"'_metric'.*No metric was given to TuneConfig"):
        Stage(scheduler, "a").result("a", acc=1)


@pytest.mark.parametrize(
    "options", [{"max_t": 0}, {"max_t": 0.5}, {"max_t": math.inf}, {"reduction_factor": 1}]
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    """Each is refused by name."""
    with pytest.raises(AssertionError, match=f"HyperBandScheduler.{next(iter(options))}"):
        HyperBandScheduler(**options)


def test_results_come_one_by_one() -> None:
    """A buffered result would run past its milestone."""
    assert not HyperBandScheduler().supports_buffered_results
    assert not HyperBandForBOHB().supports_buffered_results


def test_the_order_of_starting() -> None:
    """Of one band, trials of the least complete bracket come first."""
    stage = Stage(hyperband(max_t=9))
    for trial_id in [*"xyz", *"abcde", *"12"]:
        stage.add(trial_id)
    assert stage.choose() == "x"
    reach(stage, "x", 1, 1)
    assert stage.choose() == "a"
    reach(stage, "a", 1, 1)
    assert [stage.choose() for _ in range(9)] == [*"12", *"yz", *"bcde", None]


# --- for BOHB --------------------------------------------------------------------------------


def test_bohb_waits_for_a_full_bracket() -> None:
    """All that are there have come, but more may: they wait, and the searcher is told."""
    stage = Stage(hyperband(HyperBandForBOHB, max_t=9), *"ab")
    assert stage.result("a", 0.5, acc=1) == "CONTINUE"
    assert stage.row["hyperband_info"] == {}
    assert reach(stage, "a", 1, 1) == "PAUSE"
    assert stage.row["hyperband_info"] == {"budget": 1}
    assert reach(stage, "b", 1, 2) == "PAUSE"
    assert stage.told == [("pause", "a"), ("pause", "b")]
    assert stage.choose() is None, "a and b have not settled"
    for trial_id in "cdefghi":
        stage.add(trial_id)
        assert stage.choose() == trial_id
    stage.settle()
    for trial_id in "cdefgh":
        assert reach(stage, trial_id, 1, 0) == "PAUSE"
    stage.settle()
    stage.told.clear()
    assert reach(stage, "i", 1, 3) == "CONTINUE"
    assert stage.row["hyperband_info"] == {"budget": 1}
    assert stage.told == [("unpause", "a"), ("unpause", "b")]
    assert [stage.choose(), stage.choose(), stage.choose()] == ["a", "b", None]


def test_bohb_goes_on_when_nothing_runs() -> None:
    """If no more trials come, a bracket that is not full is compared as it is."""
    stage = Stage(hyperband(HyperBandForBOHB, max_t=9), *"abcd")
    for trial_id in "abcd":
        assert reach(stage, trial_id, 1, ord(trial_id)) == "PAUSE"
    stage.settle(*"abc")
    assert stage.choose() is None, "d has not settled"
    stage.settle()
    assert [stage.choose(), stage.choose(), stage.choose()] == ["b", "c", "d"]
    assert stage.trials["a"].is_finished()
    assert [reach(stage, t, 3, ord(t)) for t in "bcd"] == ["PAUSE", "PAUSE", "CONTINUE"]
    stage.settle()
    assert reach(stage, "d", 9, 1) == "STOP"
    assert all(trial.is_finished() for trial in stage.trials.values())


def test_bohb_without_such_a_searcher() -> None:
    """Any search algorithm will do; who does not want to know is not told."""
    stage = Stage(hyperband(HyperBandForBOHB, max_t=9), *"ab")
    stage.search_alg = object()
    assert reach(stage, "a", 1, 1) == "PAUSE"
    assert reach(stage, "b", 1, 1) == "PAUSE"


def test_bohb_catches_up_after_a_restore() -> None:
    """A trial that waits and goes on was compared by a run whose choices nobody has rehearsed."""
    stage = Stage(hyperband(HyperBandForBOHB, max_t=9), *"abcd")
    for trial_id in "abcd":
        reach(stage, trial_id, 1, ord(trial_id))
    stage.settle()
    stage.trials["d"].status = "RUNNING"
    assert reach(stage, "d", 2, 1) == "CONTINUE"
    assert stage.trials["a"].is_finished()
    assert stage.scheduler._bracket_of["d"].milestone == 3


# --- any order of events ----------------------------------------------------------------------

KINDS = [HyperBandScheduler, HyperBandForBOHB]


class Play:
    """Runs trials in an order drawn at random, with failures, ends, and pauses that settle late."""

    def __init__(self, kind: type[HyperBandScheduler], seed: int, **options: Any) -> None:
        self.random = random.Random(seed)
        self.stage = Stage(hyperband(kind, **options), slots=self.random.choice([1, 3, 10]))
        self.left = self.random.choice([1, 7, 30, 60])
        self.ahead = self.random.choice([1, 100])
        self.risk = self.random.choice([0, 0.02, 0.2])
        self.log: list[str] = []

    def step(self) -> bool:
        """Let one thing happen; False when everything is over."""
        stage, pick = self.stage, self.random
        waiting = sum(t.status == "PENDING" for t in stage.trials.values())
        while self.left and waiting < self.ahead:
            self.left -= 1
            waiting += 1
            stage.add(f"t{self.left}")
        while stage.running < stage.slots:
            chosen = stage.choose()
            if chosen is None:
                break
            self.log.append(f"start {chosen}")
        running = [
            t
            for t in stage.trials.values()
            if t.status == "RUNNING" and t.trial_id not in stage.pausing
        ]
        if stage.pausing and (not running or pick.random() < 0.5):
            stage.settle(pick.choice(sorted(stage.pausing)))
            return True
        if not running:
            return False
        trial = pick.choice(running)
        if pick.random() < self.risk:
            again = pick.random() < 0.7
            trial.time = max(0, trial.time - 2)
            stage.fail(trial.trial_id, again=again)
            self.log.append(f"fail {trial.trial_id} {again}")
        elif pick.random() < self.risk / 4:
            stage.end(trial.trial_id, {})
        else:
            score = pick.choice([pick.random(), NAN, 0.5])
            decided = stage.result(trial.trial_id, acc=score)
            self.log.append(f"{trial.trial_id} {trial.time} {decided}")
        return True

    def to_the_end(self) -> None:
        for _ in range(50_000):
            if not self.step():
                break
        else:
            raise AssertionError("it does not end")
        left = [t for t in self.stage.statuses().items() if t[1] not in ("TERMINATED", "ERROR")]
        assert not left, f"stuck: {left}"
        assert not self.stage.scheduler._bracket_of


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    max_t=st.sampled_from([1, 4, 9, 27, 30]),
    factor=st.sampled_from([2, 3, 4, 1.5, 2.5]),
)
def test_nothing_waits_for_ever(
    kind: type[HyperBandScheduler], seed: int, max_t: int, factor: float
) -> None:
    """Whatever comes, fails and ends in whatever order, all trials come to an end."""
    Play(kind, seed, max_t=max_t, reduction_factor=factor).to_the_end()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_restored_anywhere(kind: type[HyperBandScheduler], seed: int, tmp_path: Path) -> None:
    """A scheduler saved and loaded again at any point of its brackets decides as one left alone."""
    alone = Play(kind, seed, max_t=9)
    alone.to_the_end()
    cut = Play(kind, seed, max_t=9)
    state = str(tmp_path / "state")
    while cut.step():
        cut.stage.scheduler.save(state)
        fresh = hyperband(kind, max_t=9)
        fresh.restore(state)
        cut.stage.scheduler = fresh
    assert cut.log == alone.log
