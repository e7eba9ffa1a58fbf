"""Searchers: what they are asked and told, and what becomes of their suggestions."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost import tune
from milepost.tune.search import (
    BasicVariantGenerator,
    ConcurrencyLimiter,
    Repeater,
    Searcher,
    SearchGenerator,
    create_searcher,
)


class Counting(Searcher):
    """Suggests 1, 2, 3 ... and remembers everything that it is told."""

    def __init__(self, metric: str | None = "m", mode: str | None = "max", last: int = 8) -> None:
        super().__init__(metric, mode)
        self.told: list[Any] = []
        self.count = 0
        self.last = last

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.count >= self.last:
            return Searcher.FINISHED
        self.count += 1
        return {"x": self.count, "model": {"layers": self.count}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.told.append(("result", trial_id, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.told.append(("complete", trial_id, result, error))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        self._metric, self._mode = metric, mode
        self.told.append(("space", config, spec))
        return True

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(pickle.dumps(self.count))

    def restore(self, checkpoint_path: str) -> None:
        self.count = pickle.loads(Path(checkpoint_path).read_bytes())


def described(config: dict[str, Any], num_samples: int = 1) -> Any:
    """An experiment, as far as a search looks at it."""
    return SimpleNamespace(spec={"config": config, "num_samples": num_samples})


# --- the interface ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "mode"),
    [("a", "max"), (None, "max"), ("a", None), (["a", "b"], ["max", "obs"]), (None, None)],
)
def test_metric_and_mode(metric: Any, mode: Any) -> None:
    """What fits together is taken as it is."""
    searcher = Searcher(metric, mode)
    assert (searcher.metric, searcher.mode) == (metric, mode)


@pytest.mark.parametrize(
    ("metric", "mode", "message"),
    [
        ("a", "up", "got 'up'"),
        (["a"], "max", "list of the same length"),
        (["a", "b"], ["max"], "list of as many"),
        ("a", ["max"], "list of as many"),
        (["a"], ["up"], "got 'up'"),
    ],
)
def test_metric_and_mode_that_contradict(metric: Any, mode: Any, message: str) -> None:
    """Ray raises AssertionError here; ours is a ValueError as well."""
    with pytest.raises(AssertionError, match=message):
        Searcher(metric, mode)
    with pytest.raises(ValueError, match=message):
        Searcher(metric, mode)


def test_what_a_searcher_need_not_have() -> None:
    """The base refuses what a subclass must write, and does nothing else."""
    searcher = Searcher()
    for call in (
        lambda: searcher.suggest("t"),
        lambda: searcher.on_trial_complete("t"),
        lambda: searcher.save("f"),
        lambda: searcher.restore("f"),
        lambda: searcher.add_evaluated_point({}, 1.0),
        searcher.get_state,
        lambda: searcher.set_state({}),
    ):
        with pytest.raises(NotImplementedError):
            call()
    assert not searcher.set_search_properties("m", "max", {})
    assert not searcher.set_max_concurrency(2)
    searcher.on_trial_result("t", {})


def test_state_files(tmp_path: Path) -> None:
    """The newest state of a directory is taken back; without one it is an error."""
    searcher = Counting()
    with pytest.raises(RuntimeError, match=r"no file matches searcher-state-\*.pkl"):
        searcher.restore_from_dir(str(tmp_path))
    for session in ("2026-01-01", "2026-01-02"):
        searcher.suggest("t")
        searcher.save_to_dir(str(tmp_path), session)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "searcher-state-2026-01-01.pkl",
        "searcher-state-2026-01-02.pkl",
    ]
    fresh = Counting()
    fresh.restore_from_dir(str(tmp_path))
    assert fresh.count == 2


def test_learning_from_earlier_trials(caplog: pytest.LogCaptureFixture) -> None:
    """Trials of an analysis become points; pruned and failed ones are marked."""
    points = []

    class Learning(Counting):
        def add_evaluated_point(self, parameters: Any, value: Any, **facts: Any) -> None:
            points.append((parameters, value, facts["error"], facts["pruned"]))

    def trial(status: str, **result: Any) -> Any:
        return SimpleNamespace(status=status, last_result=result, config={"x": result.get("m")})

    analysis = SimpleNamespace(
        trials=[
            trial("TERMINATED", m=1, done=True),
            trial("TERMINATED", m=2),
            trial("TERMINATED", other=3),
            trial("ERROR", m=4),
        ]
    )
    Learning().add_evaluated_trials(analysis, "m")
    assert points == [
        ({"x": 1}, 1, False, False),
        ({"x": 2}, 2, False, True),
        ({"x": 4}, 4, True, False),
    ]
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        Learning().add_evaluated_trials(trial("TERMINATED", other=1), "m")
    assert "'m'" in caplog.text
    with pytest.raises(NotImplementedError, match="Counting has no add_evaluated_point"):
        Counting().add_evaluated_trials([], "m")


# --- trials from suggestions --------------------------------------------------------------------


def test_suggestions_become_trials() -> None:
    """A suggestion is merged over the constants; functions are called last, on the result."""
    search = SearchGenerator(Counting())
    constants = {
        "env": "hidden",
        "model": {"width": 3, "layers": tune.randint(1, 9)},
        "twice": tune.sample_from(lambda config: config["x"] * 2),
    }
    assert search.set_search_properties("loss", "min", constants, num_samples=2)
    search.add_configurations(described(constants, num_samples=2))
    trials = [search.next_trial() for _ in range(3)]
    assert trials[2] is None
    assert search.is_finished()
    assert search.total_samples == 2
    first, second = (t for t in trials if t)
    assert second.config == {
        "env": "hidden",
        "model": {"width": 3, "layers": 2},
        "twice": 4,
        "x": 2,
    }
    assert second.evaluated_params == {"x": 2, "model/layers": 2}
    assert (first.experiment_tag, second.experiment_tag) == (
        "1_layers=1,width=3,x=1",
        "2_layers=2,width=3,x=2",
    )
    assert len(first.trial_id) == 8
    assert int(first.trial_id, 16) >= 0
    assert first.trial_id != second.trial_id
    assert search.metric == "loss"


def test_searchers_do_not_see_functions() -> None:
    """The space that a searcher gets has no sample_from in it."""
    searcher = Counting()
    space = {"a": tune.uniform(0, 1), "m": {"s": tune.sample_from(lambda: 1), "k": 2}}
    SearchGenerator(searcher).set_search_properties("m", "max", space, num_samples=3)
    ((_, seen, spec),) = searcher.told
    assert seen == {"a": space["a"], "m": {"k": 2}}
    assert spec == {"num_samples": 3}


def test_the_end_of_suggestions() -> None:
    """FINISHED ends the search; None means later."""

    class Slow(Counting):
        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            return None if self.count == 0 and not self.told else super().suggest(trial_id)

    searcher = Slow(last=1)
    search = SearchGenerator(searcher)
    search.add_configurations([described({}, num_samples=-1)])
    assert search.next_trial() is None
    assert not search.is_finished()
    searcher.told.append("ready")
    assert search.next_trial() is not None
    assert search.next_trial() is None
    assert search.is_finished()


def test_results_reach_the_searcher() -> None:
    """Everything is told under the id of the suggestion."""
    searcher = Counting()
    search = SearchGenerator(searcher)
    search.on_trial_result("t", {"m": 1})
    search.on_trial_complete("t", {"m": 2})
    search.on_trial_complete("u", error=True)
    assert searcher.told == [
        ("result", "t", {"m": 1}),
        ("complete", "t", {"m": 2}, False),
        ("complete", "u", None, True),
    ]


def test_suggestions_that_are_none() -> None:
    """A suggestion must be a dict."""

    class Wrong(Counting):
        def suggest(self, trial_id: str) -> Any:
            return [1, 2]

    search = SearchGenerator(Wrong())
    search.add_configurations([described({})])
    with pytest.raises(ValueError, match=r"Wrong.suggest\(\) must return a dict.*\[1, 2\]"):
        search.next_trial()


def test_one_experiment_per_searcher() -> None:
    """A searcher learns about one space."""
    search = SearchGenerator(Counting())
    with pytest.raises(ValueError, match="one experiment"):
        search.add_configurations([described({}), described({})])
    search.add_configurations({"x": described({})})
    with pytest.raises(ValueError, match="one experiment"):
        search.add_configurations(described({}))
    with pytest.raises(TypeError, match="got 3"):
        SearchGenerator(3)  # type: ignore[arg-type]


def test_searchers_of_older_scripts(caplog: pytest.LogCaptureFixture) -> None:
    """set_search_properties without **spec is called without, and the log says so."""

    class Old(Counting):
        def set_search_properties(  # type: ignore[override]
            self, metric: str | None, mode: str | None, config: dict[str, Any]
        ) -> bool:
            self._metric = metric
            return True

    search = SearchGenerator(Old())
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        assert search.set_search_properties("q", "max", {}, num_samples=1)
    assert search.metric == "q"
    assert "takes no **spec" in caplog.text


def test_states_of_search_and_searcher(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both go on where they were; a searcher that cannot save is named once."""
    search = SearchGenerator(Counting())
    search.add_configurations([described({}, num_samples=5)])
    search.next_trial()
    assert not search.has_checkpoint(str(tmp_path))
    search.save_to_dir(str(tmp_path), "s")
    assert search.has_checkpoint(str(tmp_path))
    resumed = SearchGenerator(Counting())
    resumed.add_configurations([described({}, num_samples=5)])
    resumed.restore_from_dir(str(tmp_path))
    trial = resumed.next_trial()
    assert trial is not None
    assert (trial.config["x"], trial.experiment_tag) == (2, "2_layers=2,x=2")

    class Forgetful(Counting):
        def save(self, checkpoint_path: str) -> None:
            raise NotImplementedError

    search = SearchGenerator(Forgetful())
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        search.save_to_dir(str(tmp_path), "t")
        search.save_to_dir(str(tmp_path), "t")
    assert caplog.text.count("Forgetful has no save()") == 1


# --- limits -------------------------------------------------------------------------------------


def test_concurrency_limiter() -> None:
    """No more suggestions than that are out; unknown trials make no room."""
    searcher = Counting()
    limiter = ConcurrencyLimiter(searcher, 2)
    assert [bool(limiter.suggest(t)) for t in "abc"] == [True, True, False]
    limiter.on_trial_complete("unknown")
    assert limiter.suggest("c") is None
    limiter.on_trial_result("a", {"m": 1})
    limiter.on_trial_complete("a", {"m": 1})
    assert limiter.suggest("c") is not None
    limiter.on_trial_complete("b", error=True)
    assert searcher.told == [
        ("result", "a", {"m": 1}),
        ("complete", "a", {"m": 1}, False),
        ("complete", "b", None, True),
    ]


def test_concurrency_limiter_in_batches() -> None:
    """The searcher hears of a batch when all of it has ended, and only then is there room."""
    searcher = Counting()
    limiter = ConcurrencyLimiter(searcher, 2, batch=True)
    limiter.suggest("a")
    limiter.suggest("b")
    limiter.on_trial_complete("a", {"m": 1})
    assert searcher.told == []
    assert limiter.suggest("c") is None
    limiter.on_trial_complete("b", {"m": 2})
    assert [told[1] for told in searcher.told] == ["a", "b"]
    assert limiter.suggest("c") is not None


def test_a_searcher_that_limits_itself() -> None:
    """It is asked every time."""

    class Own(Counting):
        def set_max_concurrency(self, max_concurrent: int) -> bool:
            self.told.append(("limit", max_concurrent))
            return True

    searcher = Own()
    limiter = ConcurrencyLimiter(searcher, 1)
    assert all(limiter.suggest(t) for t in "abc")
    limiter.on_trial_complete("zz", {"m": 1})
    assert searcher.told == [("limit", 1), ("complete", "zz", {"m": 1}, False)]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True])
def test_limits_that_are_none(limit: Any) -> None:
    """A limit is a whole number above 0."""
    with pytest.raises(AssertionError, match="max_concurrent"):
        ConcurrencyLimiter(Counting(), limit)
    limiter = ConcurrencyLimiter(Counting(), 1)
    with pytest.raises(ValueError, match="max_concurrent"):
        limiter.set_max_concurrency(limit)
    with pytest.raises(RuntimeError, match="its own argument max_concurrent"):
        ConcurrencyLimiter(BasicVariantGenerator(), 1)  # type: ignore[arg-type]


def test_a_limiter_passes_everything_on(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Space, pauses and states are the searcher's."""

    class Pausing(Counting):
        def on_pause(self, trial_id: str) -> None:
            self.told.append(("pause", trial_id))

        def on_unpause(self, trial_id: str) -> None:
            self.told.append(("unpause", trial_id))

        def add_evaluated_point(self, *point: Any) -> None:  # type: ignore[override]
            self.told.append(("point", *point))

    searcher = Pausing()
    limiter = ConcurrencyLimiter(searcher, 2)
    assert limiter.set_search_properties("q", "min", {"a": 1})
    assert (limiter.metric, limiter.mode) == ("q", "min")
    limiter.on_pause("a")
    limiter.on_unpause("a")
    limiter.add_evaluated_point({"x": 1}, 2.0)
    assert searcher.told[1:] == [
        ("pause", "a"),
        ("unpause", "a"),
        ("point", {"x": 1}, 2.0, False, False, None),
    ]
    assert limiter.set_max_concurrency(3)
    limiter.suggest("a")
    limiter.save(str(tmp_path / "state"))
    other = ConcurrencyLimiter(Pausing(), 1)
    other.set_state(limiter.get_state())
    other.restore(str(tmp_path / "state"))
    assert (other.max_concurrent, other.live_trials) == (3, {"a"})
    assert isinstance(other.searcher, Pausing)
    assert other.searcher.count == 1
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        ConcurrencyLimiter(Counting(), 1).on_pause("a")
    assert "Counting has no on_pause()" in caplog.text


# --- repetitions --------------------------------------------------------------------------------


def test_repeater() -> None:
    """Each suggestion gets its trials, and the searcher their mean, under the first id."""
    searcher = Counting()
    repeater = Repeater(searcher, repeat=3)
    suggested = [repeater.suggest(t) for t in "abcd"]
    assert [(s["x"], s["__trial_index__"]) for s in suggested] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    for trial_id, value in zip("abc", (0.0, 1.0, 5.0), strict=True):
        repeater.on_trial_complete(trial_id, {"m": value})
    assert searcher.told == [("complete", "a", {"m": 2.0}, False)]


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([({"m": 1.0}, False), (None, True)], ({"m": 1.0}, False)),
        ([({"m": 3.0}, False), ({"m": float("nan")}, False)], ({"m": 3.0}, False)),
        ([(None, True), ({"other": 1}, False)], (None, True)),
    ],
)
def test_repetitions_without_a_value(ends: list[Any], told: tuple[Any, bool]) -> None:
    """Failures and NaN do not count; when nothing counts, the suggestion failed."""
    searcher = Counting()
    repeater = Repeater(searcher, repeat=2)
    for trial_id, (result, error) in zip("ab", ends, strict=True):
        repeater.suggest(trial_id)
        repeater.on_trial_complete(trial_id, result, error)
    assert searcher.told == [("complete", "a", *told)]


def test_repeater_details(caplog: pytest.LogCaptureFixture) -> None:
    """The number is not told when that is not wanted; the end and the state are passed on."""
    repeater = Repeater(Counting(last=1), repeat=2, set_index=False)
    assert repeater.suggest("a") == repeater.suggest("b") == {"x": 1, "model": {"layers": 1}}
    assert repeater.suggest("c") == Searcher.FINISHED
    copied = Repeater(Counting(), repeat=2)
    copied.set_state(pickle.loads(pickle.dumps(repeater.get_state())))
    copied.on_trial_complete("a", {"m": 1.0})
    with pytest.raises(KeyError):
        copied.on_trial_complete("unknown", {"m": 1.0})
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        repeater.set_search_properties("q", "min", {}, num_samples=3)
    assert "no multiple of repeat=2" in caplog.text
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="above 0"):
            Repeater(Counting(), repeat=wrong)  # type: ignore[arg-type]
    for searcher in (3, "optuna", BasicVariantGenerator()):
        with pytest.raises(RuntimeError, match="repeats the suggestions of a Searcher, got"):
            Repeater(searcher, 3)  # type: ignore[arg-type]


# --- by name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "variant_generator", "RANDOM"])
def test_create_searcher(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Known arguments are passed; others are named in the log and left out."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        search = create_searcher(name, max_concurrent=3, metric="m")
    assert isinstance(search, BasicVariantGenerator)
    assert search.max_concurrent == 3
    assert "takes no metric" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [("randm", "Did you mean 'random'"), ("dragonfly", "Available are: .*random")],
)
def test_create_searcher_of_another_name(name: str, message: str) -> None:
    """What this version does not have is an error that says what it has."""
    with pytest.raises(ValueError, match=message):
        create_searcher(name)
