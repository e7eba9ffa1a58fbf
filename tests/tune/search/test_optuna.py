"""OptunaSearch: what Optuna is asked and told, and that a restored search goes on as if uncut."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from milepost import tune
from milepost.tune.search import ConcurrencyLimiter, SearchGenerator, create_searcher
from milepost.tune.search.optuna import OptunaSearch


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


SPACE = {
    "lr": tune.loguniform(1e-5, 1e-1),
    "model": {"layers": tune.randint(1, 9), "kind": "fixed"},
    "drop": tune.quniform(0, 1, 0.25),
    "shape": tune.choice([[32, 32], [64]]),
}


def ready(space: Any = None, metric: str = "m", mode: str = "max", **options: Any) -> OptunaSearch:
    searcher = OptunaSearch(**options)
    assert searcher.set_search_properties(metric, mode, SPACE if space is None else space)
    return searcher


def score(config: dict[str, Any]) -> float:
    return -abs(math.log10(config["lr"]) + 3) - abs(config["model"]["layers"] - 5)


def drive(searcher: Any, first: int, last: int) -> list[dict[str, Any]]:
    """Suggest and complete trials, each completion two suggestions late."""
    made = {}
    for i in range(first, last):
        made[i] = searcher.suggest(f"t{i}")
        if i >= first + 2:
            done = i - 2
            searcher.on_trial_result(f"t{done}", {"m": 0.0, "training_iteration": 1})
            searcher.on_trial_complete(f"t{done}", {"m": score(made[done])})
    for done in (last - 2, last - 1):
        searcher.on_trial_complete(f"t{done}", {"m": score(made[done])})
    return list(made.values())


# --- spaces -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (tune.uniform(0, 2), FloatDistribution(0, 2)),
        (tune.quniform(0, 2, 0.5), FloatDistribution(0, 2, step=0.5)),
        (tune.loguniform(1e-3, 2), FloatDistribution(1e-3, 2, log=True)),
        (tune.randint(2, 9), IntDistribution(2, 8)),
        (tune.qrandint(2, 9, 1), IntDistribution(2, 8)),
        (tune.qrandint(4, 16, 4), IntDistribution(4, 16, step=4)),
        (tune.qrandint(3, 10, 4), IntDistribution(4, 8, step=4)),
        (tune.lograndint(1, 100), IntDistribution(1, 99, log=True)),
        (tune.choice(["a", None, 2]), CategoricalDistribution(["a", None, 2])),
        (
            tune.choice([[1], {"k": 2}]),
            CategoricalDistribution(["0: [1]", "1: {'k': 2}"]),
        ),
    ],
    ids=str,
)
def test_each_variable_has_its_distribution(domain: Any, expected: Any) -> None:
    """The table of the contract, line by line."""
    searcher = ready({"x": domain}, seed=1)
    searcher.suggest("t")
    (trial,) = searcher.study.trials  # type: ignore[union-attr]
    assert trial.distributions == {"x": expected}


@pytest.mark.parametrize("domain", [tune.qloguniform(0.1, 1, 0.1), tune.qlograndint(2, 8, 2)])
def test_steps_that_are_dropped_are_named(domain: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Optuna has no steps on a logarithmic range; the log says that there are none."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        ready({"x": domain})
    assert "Optuna cannot round 'x' to multiples of" in caplog.text


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"m": {"x": tune.randn(0, 1)}}, r"cannot search 'm/x': randn\(0, 1\).*uniform"),
        ({"x": tune.grid_search([1]), "y": tune.uniform(0, 1)}, "'x': it is a grid"),
        ({"x": {"eval": "1"}, "y": tune.uniform(0, 1)}, "'x': it is an expression"),
        ({"a/b": tune.uniform(0, 1)}, "The key 'a/b' has a slash"),
    ],
)
def test_variables_that_cannot_be_searched(space: Any, message: str) -> None:
    """They are refused by name, before any trial."""
    with pytest.raises(ValueError, match=message):
        ready(space)


def test_suggestions_are_nested_and_of_the_users_own_values() -> None:
    """Lists, nested dicts and objects come back as in the space; constants are the run's."""
    marker = object()
    space = {
        "m": {"x": tune.uniform(0, 1), "c": 3},
        "l": [tune.randint(0, 5), "kept"],
        "o": tune.choice([marker]),
    }
    config: Any = ready(space, seed=1).suggest("t")
    assert set(config) == {"m", "l", "o"}
    assert set(config["m"]) == {"x"}
    assert config["l"][0] in range(5)
    assert config["l"][1] == "kept"
    assert config["o"] is marker


def test_variables_inside_of_a_choice() -> None:
    """Only those of the chosen value are searched."""
    space = {
        "opt": tune.choice(
            [
                {"name": "sgd", "momentum": tune.uniform(0, 1)},
                {"name": "adam", "betas": [tune.uniform(2, 3), 0.9]},
            ]
        )
    }
    searcher = ready(space, seed=3)
    seen = set()
    for i in range(20):
        opt: Any = searcher.suggest(str(i))["opt"]  # type: ignore[index]
        seen.add(opt["name"])
        if opt["name"] == "sgd":
            assert 0 <= opt["momentum"] <= 1
            assert "betas" not in opt
        else:
            assert 2 <= opt["betas"][0] <= 3
            assert opt["betas"][1] == 0.9
        searcher.on_trial_complete(str(i), {"m": 0.5})
    assert seen == {"sgd", "adam"}
    params = {name for t in searcher.study.trials for name in t.params}  # type: ignore[union-attr]
    assert params == {"opt", "opt/0/momentum", "opt/1/betas/0"}


def test_a_dict_of_distributions() -> None:
    """Nested dicts are flattened for Optuna and nested in the suggestion."""
    space = {"a": FloatDistribution(0, 1), "n": {"b": IntDistribution(1, 3)}}
    searcher = OptunaSearch(space, metric="m", mode="min", seed=0)
    config: Any = searcher.suggest("t")
    assert 0 <= config["a"] <= 1
    assert config["n"]["b"] in (1, 2, 3)
    assert searcher.study.direction.name == "MINIMIZE"  # type: ignore[union-attr]
    assert not searcher.set_search_properties("other", "max", SPACE)
    assert (searcher.metric, searcher.mode) == ("m", "min")


def test_search_variables_given_to_the_searcher(caplog: pytest.LogCaptureFixture) -> None:
    """They are converted with a warning, and constants beside them are kept."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher = OptunaSearch({"x": tune.uniform(0, 1), "c": 7}, mode="max", seed=0)
    assert "Give it as param_space instead" in caplog.text
    assert searcher.metric == "_metric"
    config: Any = searcher.suggest("t")
    assert config["c"] == 7


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"a": 3}, TypeError, "has 3 for 'a', which is no distribution"),
        ([FloatDistribution(0, 1)], TypeError, "must be a dict of distributions"),
        ({"a/b": FloatDistribution(0, 1)}, ValueError, "a/b"),
    ],
)
def test_spaces_that_are_none(space: Any, error: Any, message: str) -> None:
    """A space of another kind is an error where it is given."""
    with pytest.raises(error, match=message):
        OptunaSearch(space, metric="m", mode="max")


def test_define_by_run() -> None:
    """Every suggested value is recorded by its name; what is returned is put on top."""

    def define(trial: Any) -> dict[str, Any]:
        x = trial.suggest_float("x", 0, 1)
        if x > 0.5:
            trial.suggest_int(name="m/deep", low=1, high=3)
        return {"constant": 5}

    searcher = OptunaSearch(define, metric="m", mode="max", seed=0)
    configs: list[Any] = [searcher.suggest(str(i)) for i in range(8)]
    assert all(c["constant"] == 5 and ("m" in c) == (c["x"] > 0.5) for c in configs)
    assert {("m" in c) for c in configs} == {True, False}
    assert searcher.suggest("3") == configs[3]
    assert len(searcher.study.trials) == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("returned", [3, {1: 2}, [("a", 1)]])
def test_what_a_defining_function_may_not_return(returned: Any) -> None:
    """Anything but None or a dict with text as keys."""
    searcher = OptunaSearch(lambda trial: returned, metric="m", mode="max")
    with pytest.raises(TypeError, match="None or a dict of constants"):
        searcher.suggest("t")


def test_a_slow_defining_function_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training in it is a common mistake."""
    clock = iter((0.0, 1.5))
    monkeypatch.setattr(
        "milepost.tune.search.optuna.spaces.time.monotonic", lambda: next(clock, 2.0)
    )
    searcher = OptunaSearch(lambda trial: {"c": 1}, metric="m", mode="max")
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        assert searcher.suggest("t") == {"c": 1}
    assert "took 1.5 s" in caplog.text


# --- arguments ----------------------------------------------------------------------------------


def test_what_is_missing_at_suggest() -> None:
    """Space, metric and mode are asked for by name."""
    with pytest.raises(RuntimeError, match="OptunaSearch has no search space"):
        OptunaSearch(metric="m", mode="max").suggest("t")
    searcher = OptunaSearch({"a": FloatDistribution(0, 1)}, metric="m")
    with pytest.raises(RuntimeError, match="metric='m' and mode=None"):
        searcher.suggest("t")
    unset = OptunaSearch()
    unset.set_search_properties(None, None, SPACE)
    with pytest.raises(RuntimeError, match="metric=None"):
        unset.suggest("t")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "up"}, AssertionError, "got 'up'"),
        ({"mode": ["min", "max"]}, ValueError, "metric must be a list"),
        ({"sampler": "tpe"}, AssertionError, "optuna.samplers.BaseSampler, got 'tpe'"),
        ({"sampler": optuna.samplers.TPESampler}, AssertionError, "object derived"),
        ({"storage": "sqlite:///x.db"}, AssertionError, "optuna.storages.BaseStorage"),
        ({"points_to_evaluate": {"x": 1}}, TypeError, "list of dicts"),
        ({"points_to_evaluate": [3]}, TypeError, "must be a dict, got 3"),
        ({"points_to_evaluate": [{}], "evaluated_rewards": [1, 2]}, ValueError, "2 evaluated"),
        ({"points_to_evaluate": [{}], "evaluated_rewards": 1}, TypeError, "list of numbers"),
        (
            {"space": print, "points_to_evaluate": [{}], "evaluated_rewards": [1]},
            TypeError,
            "evaluated_rewards need a space",
        ),
    ],
)
def test_arguments_that_cannot_be_used(arguments: Any, error: Any, message: str) -> None:
    """They are refused by the constructor."""
    with pytest.raises(error, match=message):
        OptunaSearch(**arguments)


def test_a_sampler_and_its_seed(caplog: pytest.LogCaptureFixture) -> None:
    """A seed beside a sampler has no effect, which is said; the sampler is used."""
    sampler = optuna.samplers.RandomSampler(seed=1)
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher = ready(sampler=sampler, seed=3, study_name="mine")
    assert "seed=3 has no effect" in caplog.text
    assert searcher.study.sampler is sampler  # type: ignore[union-attr]
    assert searcher.study.study_name == "mine"  # type: ignore[union-attr]
    assert drive(ready(seed=5), 0, 6) == drive(ready(seed=5), 0, 6)
    assert drive(ready(), 0, 3) != drive(ready(), 0, 3)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is Ray's type and an ImportError, with the command that helps."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AssertionError, match=r"pip install 'milepost\[optuna\]'"):
        create_searcher("optuna")
    with pytest.raises(ImportError, match="OptunaSearch needs optuna"):
        OptunaSearch()


def test_an_optuna_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with its version."""
    monkeypatch.setattr(optuna, "__version__", "2.10.1")
    with pytest.raises(ImportError, match=r"2\.10\.1 is installed"):
        OptunaSearch()


# --- what it learns -----------------------------------------------------------------------------


def states(searcher: OptunaSearch) -> list[tuple[str, Any]]:
    return [(t.state.name, t.values) for t in searcher.study.trials]  # type: ignore[union-attr]


def test_outcomes(caplog: pytest.LogCaptureFixture) -> None:
    """Value, failure, no value and no number are told apart; none stays running."""
    searcher = ready(seed=0)
    for i in range(5):
        searcher.suggest(str(i))
    searcher.on_trial_complete("0", {"m": 2})
    searcher.on_trial_complete("1", error=True)
    searcher.on_trial_complete("2")
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher.on_trial_complete("3", {"m": math.nan})
        searcher.on_trial_complete("4", {"m": "text"})
    assert "m=nan" in caplog.text
    assert "m='text'" in caplog.text
    assert states(searcher) == [
        ("COMPLETE", [2.0]),
        ("FAIL", None),
        ("PRUNED", None),
        ("FAIL", None),
        ("FAIL", None),
    ]


def test_late_and_second_ends(caplog: pytest.LogCaptureFixture) -> None:
    """They are named and change nothing."""
    searcher = ready(seed=0)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"m": 1})
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher.on_trial_complete("a", {"m": 9})
        searcher.on_trial_result("a", {"m": 9, "training_iteration": 3})
    assert "has ended before" in caplog.text
    assert "came after its end" in caplog.text
    assert states(searcher) == [("COMPLETE", [1.0])]


def test_intermediate_values() -> None:
    """Each iteration counts once, also when a trial repeats it after a retry."""
    searcher = ready(seed=0)
    searcher.suggest("a")
    for iteration, value in ((1, 0.1), (2, 0.2), (2, 0.9), (3, 0.3)):
        searcher.on_trial_result("a", {"m": value, "training_iteration": iteration})
    searcher.on_trial_complete("a")
    (trial,) = searcher.study.trials  # type: ignore[union-attr]
    assert trial.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert trial.state is TrialState.PRUNED
    searcher.suggest("b")
    with pytest.raises(KeyError, match=r"no 'm', the metric of OptunaSearch"):
        searcher.on_trial_result("b", {"mm": 1, "training_iteration": 1})


def test_several_metrics() -> None:
    """Directions follow the modes, intermediate values are left out, a missing value fails."""
    searcher = OptunaSearch(
        {"x": FloatDistribution(0, 1)}, metric=["a", "b", "c"], mode=["min", "max", "obs"], seed=0
    )
    for i in range(3):
        searcher.suggest(str(i))
    searcher.on_trial_result("0", {"a": 1, "training_iteration": 1})
    searcher.on_trial_complete("0", {"a": 1, "b": 2, "c": 3})
    searcher.on_trial_complete("1", {"a": 1, "b": 2})
    searcher.on_trial_complete("2", error=True)
    assert [d.name for d in searcher.study.directions] == [  # type: ignore[union-attr]
        "MINIMIZE",
        "MAXIMIZE",
        "MAXIMIZE",
    ]
    assert states(searcher) == [("COMPLETE", [1.0, 2.0, 3.0]), ("FAIL", None), ("FAIL", None)]


def test_points_to_evaluate(caplog: pytest.LogCaptureFixture) -> None:
    """They come first and in order, nested or flat; what they leave out is sampled."""
    points = [
        {"lr": 1e-2, "model": {"layers": 3}, "drop": 0.5, "shape": [64]},
        {"lr": 1e-4, "model/layers": 4},
        {"lrr": 1},
    ]
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher = ready(seed=0, points_to_evaluate=points)
    assert "Did you mean 'lr'" in caplog.text
    first, second, third = (searcher.suggest(t) for t in "abc")
    assert first == points[0]
    assert (second["lr"], second["model"]["layers"]) == (1e-4, 4)  # type: ignore[index]
    assert set(third) == set(SPACE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[1\] is no value of 'shape'"):
        ready(points_to_evaluate=[{"shape": [1]}])


def test_points_that_were_evaluated() -> None:
    """They are finished trials and are not run again."""
    points = [{"lr": 10.0**-i, "model": {"layers": i}, "drop": 0, "shape": [64]} for i in (2, 3)]
    searcher = ready(seed=0, points_to_evaluate=points, evaluated_rewards=[0.5, 0.7])
    assert states(searcher) == [("COMPLETE", [0.5]), ("COMPLETE", [0.7])]
    assert searcher.suggest("t") not in points
    searcher.add_evaluated_point(
        {**points[0], "more": 1}, 0.9, pruned=True, intermediate_values=[0.1, 0.9]
    )
    searcher.add_evaluated_point(points[1], 0.1, error=True)
    assert states(searcher)[3:] == [("PRUNED", [0.9]), ("FAIL", None)]
    assert searcher.study.trials[3].intermediate_values == {  # type: ignore[union-attr]
        0: 0.1,
        1: 0.9,
    }
    with pytest.raises(ValueError, match="no value for drop, shape"):
        searcher.add_evaluated_point({"lr": 1e-2, "model": {"layers": 1}}, 1.0)
    with pytest.raises(RuntimeError, match="no search space"):
        OptunaSearch().add_evaluated_point({}, 1.0)
    with pytest.raises(TypeError, match="function defines the space"):
        OptunaSearch(print, metric="m", mode="max").add_evaluated_point({}, 1.0)


# --- going on -----------------------------------------------------------------------------------

SAMPLERS: dict[str, Any] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=3, n_startup_trials=4),
    "tpe without a seed": lambda: optuna.samplers.TPESampler(n_startup_trials=4),
    "random without a seed": optuna.samplers.RandomSampler,
    "qmc": lambda: optuna.samplers.QMCSampler(seed=1, warn_asynchronous_seeding=False),
    "nsga": lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=4),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("cut", [0, 1, 6, 11])
def test_a_restored_search_proposes_what_an_uncut_one_would(
    kind: str, cut: int, tmp_path: Path
) -> None:
    """Saved anywhere and loaded into a fresh object, it makes the same suggestions."""
    searcher = ready(sampler=SAMPLERS[kind](), points_to_evaluate=[{"lr": 0.05}])
    before = {i: searcher.suggest(f"t{i}") for i in range(cut)}
    for i in range(cut - 1):
        searcher.on_trial_complete(f"t{i}", {"m": score(before[i])})  # type: ignore[arg-type]
    searcher.save(str(tmp_path / "state"))
    fresh = OptunaSearch()
    fresh.restore(str(tmp_path / "state"))
    assert drive(fresh, 20, 28) == drive(searcher, 20, 28)
    if cut:
        assert fresh.suggest(f"t{cut - 1}") == before[cut - 1]


def test_a_function_as_space_is_part_of_the_state(tmp_path: Path) -> None:
    """Also a local one."""
    offset = 3

    def define(trial: Any) -> None:
        trial.suggest_float("x", offset, offset + 1)

    searcher = OptunaSearch(define, metric="m", mode="max", seed=1)
    searcher.suggest("a")
    searcher.save(str(tmp_path / "state"))
    fresh = OptunaSearch()
    fresh.restore(str(tmp_path / "state"))
    fresh.on_trial_complete("a", {"m": 1})
    searcher.on_trial_complete("a", {"m": 1})
    assert fresh.suggest("b") == searcher.suggest("b")


def journal_storage(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


@pytest.mark.parametrize("has_state", [True, False])
def test_a_study_in_a_storage_goes_on_from_the_storage(tmp_path: Path, has_state: bool) -> None:
    """Replayed calls ask for nothing and tell nothing twice; later draws are no repetitions."""

    def made() -> OptunaSearch:
        return ready(
            seed=1, storage=journal_storage(tmp_path / "study"), points_to_evaluate=[{"lr": 0.05}]
        )

    searcher = made()
    first = searcher.suggest("a")
    searcher.save(str(tmp_path / "state"))
    second, third = searcher.suggest("b"), searcher.suggest("c")
    searcher.on_trial_result("b", {"m": 0.5, "training_iteration": 1})
    searcher.on_trial_complete("b", {"m": 1.0})
    restored = OptunaSearch() if has_state else made()
    if has_state:
        restored.restore(str(tmp_path / "state"))
    else:
        assert restored.suggest("a") == first
    assert restored.suggest("b") == second
    assert restored.suggest("c") == third
    restored.on_trial_result("b", {"m": 0.5, "training_iteration": 1})
    restored.on_trial_complete("b", {"m": 1.0})
    restored.on_trial_result("c", {"m": 0.25, "training_iteration": 1})
    restored.on_trial_complete("c", {"m": 0.5})
    assert [name for name, _ in states(restored)] == ["RUNNING", "COMPLETE", "COMPLETE"]
    fourth = restored.suggest("d")
    assert fourth not in (first, second, third)
    assert len(restored.study.trials) == 4  # type: ignore[union-attr]


def test_a_limited_search_is_rebuilt_by_replay(tmp_path: Path) -> None:
    """State of limiter, generator and study together, then the calls since: as never cut."""

    class Described:
        spec: Any = {"config": SPACE, "num_samples": 12}  # noqa: RUF012

    def made() -> SearchGenerator:
        search = SearchGenerator(ConcurrencyLimiter(OptunaSearch(seed=7), 3))
        search.set_search_properties("m", "max", SPACE)
        search.add_configurations(Described())
        return search

    def step(search: SearchGenerator, given: list[str]) -> list[Any]:
        """One trial: proposed under a known or a new id, and completed."""
        trial = search.next_trial(*given)
        assert trial is not None
        search.on_trial_complete(trial.trial_id, {"m": score(trial.config)})
        return [trial.trial_id, trial.config]

    search = made()
    for _ in range(4):
        step(search, [])
    search.save_to_dir(str(tmp_path), "s")
    since = [step(search, []) for _ in range(3)]
    restored = made()
    restored.restore_from_dir(str(tmp_path))
    assert [step(restored, [trial_id]) for trial_id, _ in since] == since
    assert [step(restored, [])[1] for _ in range(4)] == [step(search, [])[1] for _ in range(4)]
