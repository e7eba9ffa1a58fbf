"""Searchers over other libraries: what they have in common, each alike."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.api.available import DISCONTINUED
from milepost.tune.search import ConcurrencyLimiter, Searcher, create_searcher

# Libraries warn of their own: of values they round, of fits that do not converge.
pytestmark = pytest.mark.filterwarnings("ignore")

FLOATS = {"x": tune.uniform(-4, 4), "m": {"y": tune.uniform(-4, 4), "c": "fixed"}}
MIXED = {
    "x": tune.uniform(-4, 4),
    "m": {"y": tune.loguniform(1e-4, 1), "c": "fixed"},
    "i": tune.randint(2, 9),
    "l": tune.lograndint(1, 64),
    "q": tune.qrandint(4, 16, 4),
    "o": tune.choice([[32, 32], None, "relu", 3]),
    "s": [tune.uniform(0, 1), "kept"],
}


def _optuna(**options: Any) -> Any:
    from milepost.tune.search.optuna import OptunaSearch

    return OptunaSearch(**_seeded(options, "seed"))


def _hyperopt(**options: Any) -> Any:
    pytest.importorskip("hyperopt")
    from milepost.tune.search.hyperopt import HyperOptSearch

    return HyperOptSearch(**{"n_initial_points": 5, **_seeded(options, "random_state_seed")})


def _bayesopt(**options: Any) -> Any:
    pytest.importorskip("bayes_opt")
    from milepost.tune.search.bayesopt import BayesOptSearch

    return BayesOptSearch(**{"random_search_steps": 4, **_seeded(options, "random_state")})


def _nevergrad(**options: Any) -> Any:
    pytest.importorskip("nevergrad")
    from milepost.tune.search.nevergrad import NevergradSearch

    return NevergradSearch(**options)


def _bohb(**options: Any) -> Any:
    pytest.importorskip("ConfigSpace")
    from milepost.tune.search.bohb import TuneBOHB

    return TuneBOHB(**_seeded(options, "seed"))


def _ax(**options: Any) -> Any:
    pytest.importorskip("ax")
    from milepost.tune.search.ax import AxSearch

    return AxSearch(random_seed=3, **options)


def _seeded(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: 3, **options}


ALL: dict[str, Callable[..., Any]] = {
    "optuna": _optuna,
    "hyperopt": _hyperopt,
    "bayesopt": _bayesopt,
    "nevergrad": _nevergrad,
    "bohb": _bohb,
    "ax": _ax,
}
everyone = pytest.mark.parametrize("name", ALL)


def ready(name: str, space: Any = None, mode: str = "min", **options: Any) -> Any:
    searcher = ALL[name](**options)
    assert searcher.set_search_properties("loss", mode, FLOATS if space is None else space)
    return searcher


def loss(config: dict[str, Any]) -> float:
    return float((config["x"] - 1.5) ** 2 + (config["m"]["y"] + 2) ** 2)


def tell(searcher: Any, trial_id: str, value: float) -> None:
    result = {"loss": value, "training_iteration": 1, "hyperband_info/budget": 3}
    searcher.on_trial_result(trial_id, result)
    searcher.on_trial_complete(trial_id, result)


def drive(searcher: Any, first: int, count: int, sign: float = 1.0) -> list[Any]:
    """Suggest and tell, the previous one always out."""
    made: list[Any] = []
    out: list[tuple[str, Any]] = []
    for i in range(first, first + count):
        config = searcher.suggest(f"t{i}")
        while config is None and out:
            earlier, known = out.pop(0)
            tell(searcher, earlier, sign * loss(known))
            config = searcher.suggest(f"t{i}")
        assert config is not None
        if config == Searcher.FINISHED:
            break
        made.append(config)
        out.append((f"t{i}", config))
        if len(out) > 1:
            earlier, known = out.pop(0)
            tell(searcher, earlier, sign * loss(known))
    for earlier, known in out:
        tell(searcher, earlier, sign * loss(known))
    return made


@everyone
def test_suggestions_are_in_the_space(name: str) -> None:
    """Nested like the space, within bounds, of Python's own types; constants are the run's."""
    searcher = ready(name, FLOATS if name == "bayesopt" else MIXED)
    for i in range(6):
        config: Any = searcher.suggest(str(i))
        if config is None:
            break
        assert -4 <= config["x"] <= 4
        assert type(config["x"]) is float
        assert set(config["m"]) == {"y"}
        if name != "bayesopt":
            assert 1e-4 <= config["m"]["y"] <= 1
            assert config["i"] in range(2, 9)
            assert config["l"] in range(1, 64)
            assert 4 <= config["q"] <= 16
            assert {type(config[k]) for k in "ilq"} == {int}
            assert config["o"] in ([32, 32], None, "relu", 3)
            assert 0 <= config["s"][0] <= 1
            assert config["s"][1] == "kept"
        tell(searcher, str(i), float(i))


@everyone
@pytest.mark.parametrize("cut", [0, 1, 3, 9])
def test_a_restored_search_proposes_what_an_uncut_one_would(
    name: str, cut: int, tmp_path: Path
) -> None:
    """Saved anywhere and loaded into a fresh object, it makes the same suggestions."""
    if name == "ax":
        pytest.skip("Ax draws from generators of its own")
    searcher = ready(name)
    drive(searcher, 0, cut)
    more = 3 if name == "bayesopt" else 6
    searcher.save(str(tmp_path / "state"))
    fresh = ALL[name]()
    fresh.restore(str(tmp_path / "state"))
    assert (fresh.metric, fresh.mode) == ("loss", "min")
    assert drive(fresh, 20, more) == drive(searcher, 20, more)


@everyone
def test_a_trial_that_was_out_when_the_state_was_saved(name: str, tmp_path: Path) -> None:
    """Its result is learned from by the restored search as well."""
    searcher = ready(name)
    configs = {t: searcher.suggest(t) for t in "abc"}
    searcher.save(str(tmp_path / "state"))
    fresh = ALL[name]()
    fresh.restore(str(tmp_path / "state"))
    for one in (fresh, searcher):
        for trial_id, config in configs.items():
            tell(one, trial_id, loss(config))
    if name == "ax":
        assert fresh.suggest("d") is not None
    else:
        assert fresh.suggest("d") == searcher.suggest("d")


@everyone
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_optimum_is_found_better_than_at_random(name: str, mode: str) -> None:
    """The best of the last half of trials is far better than random search is on average."""
    import numpy as np

    half = 8 if name in ("bayesopt", "ax") else 20
    rng = np.random.default_rng(0)
    random = (rng.uniform(-4, 4, (400, half, 2)) - [1.5, -2]) ** 2
    expected = float(random.sum(axis=2).min(axis=1).mean())
    np.random.seed(0)  # Nevergrad takes its seed from here
    searcher = ready(name, mode=mode)
    configs = drive(searcher, 0, 2 * half, 1.0 if mode == "min" else -1.0)
    best = min(loss(config) for config in configs[-half:])
    assert best < expected / 2


@everyone
def test_failures_and_values_that_are_no_numbers(name: str) -> None:
    """They end the trial and teach nothing wrong; unknown trials are ignored."""
    searcher = ready(name)
    for trial_id in "abcd":
        searcher.suggest(trial_id)
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("b")
    for trial_id, value in (("c", math.nan), ("d", 1.0)):
        searcher.on_trial_complete(trial_id, {"loss": value, "training_iteration": 1})
    searcher.on_trial_complete("unknown", {"loss": 1.0})
    assert searcher.suggest("e") is not None


@everyone
def test_points_come_first(name: str) -> None:
    """In their order, before anything else."""
    points = [{"x": 1.0, "m": {"y": 2.0}}, {"x": -3.0, "m": {"y": 0.5}}]
    searcher = ready(name, points_to_evaluate=points)
    suggested = [searcher.suggest(t) for t in "ab"]
    for config, point in zip(suggested, points, strict=True):
        assert config["x"] == pytest.approx(point["x"])
        assert config["m"]["y"] == pytest.approx(point["m"]["y"])
    with pytest.raises(TypeError, match="list of dicts"):
        ALL[name](points_to_evaluate={"x": 1})


@everyone
def test_what_is_missing(name: str) -> None:
    """Space, metric and mode are asked for by name; a mode alone means Tune's default metric."""
    with pytest.raises(RuntimeError, match="has no search space"):
        ALL[name]().suggest("t")
    searcher = ALL[name]()
    searcher.set_search_properties(None, "max", FLOATS)
    assert searcher.metric == "_metric"
    with pytest.raises(AssertionError, match="got 'up'"):
        ALL[name](mode="up")
    with pytest.raises(ValueError, match="it is a grid"):
        ready(name, {"x": tune.grid_search([1]), "y": tune.uniform(0, 1)})


@everyone
def test_a_space_of_its_own(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Tune's variables are converted with a warning; the run's space is not taken."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher = ALL[name](space=FLOATS, metric="loss", mode="min")
    assert "Give it as param_space instead" in caplog.text
    assert not searcher.set_search_properties("other", "max", {"z": tune.uniform(0, 1)})
    assert searcher.suggest("a")["m"]["c"] == "fixed"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("optuna", "optuna"),
        ("hyperopt", "hyperopt"),
        ("bayesopt", "bayes_opt"),
        ("nevergrad", "nevergrad"),
        ("bohb", "ConfigSpace"),
        ("ax", "ax"),
    ],
)
def test_without_the_library(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is Ray's type and an ImportError, with the command that helps."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AssertionError, match=rf"pip install 'milepost\[{name}\]'"):
        create_searcher(name)
    with pytest.raises(ImportError):
        create_searcher(name)


@pytest.mark.parametrize("name", DISCONTINUED)
def test_libraries_that_are_not_maintained(name: str) -> None:
    """Their names are there and say what to use instead, wherever they are used."""
    from milepost.tune.search.hebo import HEBOSearch
    from milepost.tune.search.zoopt import ZOOptSearch

    kind: Any = {"hebo": HEBOSearch, "zoopt": ZOOptSearch}[name]
    with pytest.raises(ImportError, match=r"not maintained any more.*Use"):
        kind(budget=3)
    for use in (create_searcher, lambda alg: tune.TuneConfig(search_alg=alg)):
        with pytest.raises(ValueError, match=r"not maintained any more.*Use"):
            use(name)


UNSUPPORTED = [
    ("nevergrad", None, ""),
    ("hyperopt", None, ""),
    ("bohb", tune.randn(0, 1), "numbers between bounds"),
    ("ax", tune.randn(0, 1), "numbers between bounds"),
    ("bayesopt", tune.randn(0, 1), "floats between bounds"),
    ("bayesopt", tune.randint(0, 5), "floats between bounds"),
    ("bayesopt", tune.choice([1, 2]), "floats between bounds"),
]


@pytest.mark.parametrize(("name", "domain", "message"), UNSUPPORTED)
def test_variables_that_cannot_be_searched(name: str, domain: Any, message: str) -> None:
    """They are refused by name; those who know normal variables draw them."""
    if domain is not None:
        with pytest.raises(ValueError, match=f"cannot search 'm/v'.*{message}"):
            ready(name, {"m": {"v": domain}})
        return
    drawn = [ready(name, {"v": tune.randn(50, 1)}).suggest("t")["v"] for _ in range(3)]
    assert all(40 < value < 60 for value in drawn)


@pytest.mark.parametrize("name", ["bohb", "nevergrad", "ax", "bayesopt"])
def test_steps_that_are_dropped_are_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which variable is searched without its step."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        ready(name, {"v": tune.quniform(0, 1, 0.5), "w": tune.uniform(0, 1)})
    assert "cannot round 'v' to multiples of 0.5" in caplog.text
    assert "'w'" not in caplog.text


# --- each on its own ----------------------------------------------------------------------------


def test_hyperopt_conditional_spaces() -> None:
    """Variables inside of a choice exist only where it is chosen; presets pick their values."""
    space = {
        "opt": tune.choice(
            [{"kind": "sgd", "momentum": tune.uniform(0, 1)}, {"kind": "adam"}, "none"]
        )
    }
    searcher = ready("hyperopt", space, points_to_evaluate=[{"opt": "none"}])
    seen = set()
    for i in range(25):
        opt = searcher.suggest(str(i))["opt"]
        seen.add(str(opt["kind"] if isinstance(opt, dict) else opt))
        if isinstance(opt, dict):
            assert ("momentum" in opt) == (opt["kind"] == "sgd")
        tell(searcher, str(i), 1.0 if opt == "none" else 0.0)
        assert i > 0 or opt == "none"
    assert seen == {"sgd", "adam", "none"}


def test_hyperopt_expressions() -> None:
    """A dict of its own expressions; presets of choices are values, a wrong one is an error."""
    hyperopt = pytest.importorskip("hyperopt")
    hp = hyperopt.hp
    space = {"a": hp.uniform("label", 0, 1), "n": {"c": hp.choice("c", ["u", "v"])}, "k": 3}
    options: Any = {"space": space, "metric": "loss", "mode": "max"}
    searcher = _hyperopt(**options, points_to_evaluate=[{"a": 0.25, "n": {"c": "v"}}])
    assert searcher.suggest("a") == {"a": 0.25, "n": {"c": "v"}, "k": 3}
    config = searcher.suggest("b")
    assert 0 <= config["a"] <= 1
    assert config["n"]["c"] in ("u", "v")
    with pytest.raises(ValueError, match=r"'w' is no value of 'n/c'; it must be one of \['u', 'v'"):
        _hyperopt(**options, points_to_evaluate=[{"n": {"c": "w"}}])
    with pytest.raises(RuntimeError, match="only constants"):
        _hyperopt(space={"k": 3}, metric="loss", mode="max")
    with pytest.raises(KeyError, match="no 'loss'"):
        searcher.on_trial_complete("b", {"lss": 1})


def test_bayesopt_waits_for_its_random_trials() -> None:
    """Beyond them nothing is suggested until all have ended, also failed ones."""
    searcher = ready("bayesopt", random_search_steps=3)
    assert all(searcher.suggest(t) for t in "abc")
    assert searcher.suggest("d") is None
    tell(searcher, "a", 1.0)
    searcher.on_trial_complete("b", error=True)
    assert searcher.suggest("d") is None
    tell(searcher, "c", math.inf)
    assert searcher.suggest("d") is not None


def test_bayesopt_ends_when_it_only_repeats_itself() -> None:
    """A space with one point is searched once; with patience out the search ends."""
    searcher = _bayesopt(space={"x": (1, 1)}, metric="loss", mode="min", random_search_steps=1)
    assert searcher.suggest("a") == {"x": 1.0}
    assert searcher.suggest("b") is None
    tell(searcher, "a", 1.0)
    assert searcher.suggest("b") == Searcher.FINISHED
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="patience must be at least 1"):
            _bayesopt(patience=wrong)
    with pytest.raises(ValueError, match="'x' must have"):
        _bayesopt(space={"x": 3})


@pytest.mark.parametrize("kind", ["ucb", "ei", "poi"])
def test_bayesopt_utilities_and_earlier_points(kind: str) -> None:
    """Each utility works; points of an earlier analysis are learned from."""
    from types import SimpleNamespace

    trials = [
        SimpleNamespace(
            status="TERMINATED",
            config={"x": x, "m": {"y": -2.0}},
            last_result={"loss": (x - 1.5) ** 2, "done": True},
        )
        for x in (-3.0, 0.0, 1.0, 3.0)
    ]
    searcher = ready(
        "bayesopt",
        utility_kwargs={"kind": kind, "kappa": 1.0, "xi": 0.01},
        random_search_steps=0,
        analysis=SimpleNamespace(trials=trials),
    )
    assert len(searcher._optimizer.space) == 4
    assert -4 <= searcher.suggest("a")["x"] <= 4


def test_nevergrad_optimizers() -> None:
    """Classes, configured ones and objects are taken; anything else is an error."""
    ng = pytest.importorskip("nevergrad")
    from milepost.tune.search.nevergrad import NevergradSearch

    assert ready("nevergrad", optimizer=ng.optimizers.RandomSearch).suggest("a")
    kwargs = {"budget": 20, "num_workers": 2}
    configured = ng.families.DifferentialEvolution(popsize=5)
    assert ready("nevergrad", optimizer=configured, optimizer_kwargs=kwargs).suggest("a")
    made = ng.optimizers.OnePlusOne(ng.p.Array(shape=(2,)), budget=10)
    options: Any = {"metric": "loss", "mode": "max"}
    points = [{"u": 0.25, "v": 0.5}]
    searcher = NevergradSearch(made, space=["u", "v"], points_to_evaluate=points, **options)
    assert searcher.suggest("a") == points[0]
    assert set(searcher.suggest("b")) == {"u", "v"}
    parameter = ng.p.Instrumentation(u=ng.p.Scalar(lower=0, upper=1))
    native = NevergradSearch(space=parameter, points_to_evaluate=[{"u": 0.25}], **options)
    assert native.suggest("a") == {"u": 0.25}
    assert 0 <= native.suggest("b")["u"] <= 1
    for wrong, message in (
        ({"optimizer": "OnePlusOne"}, "must be a class"),
        ({"optimizer": made, "optimizer_kwargs": kwargs}, "no effect"),
        ({"optimizer": made, "space": {"u": 1}}, "has its own space"),
        ({"space": [1]}, "must be a nevergrad.p.Parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            NevergradSearch(**wrong)


def test_bohb_learns_at_the_largest_budget() -> None:
    """The model is of the largest budget with enough results; before there is none."""
    searcher = ready("bohb", bohb_config={"random_fraction": 0.0, "min_points_in_model": 3})
    for i in range(12):
        config = searcher.suggest(str(i))
        for budget in (1, 9) if i % 2 else (1,):
            searcher.on_trial_result(
                str(i), {"loss": loss(config), "hyperband_info": {"budget": budget}}
            )
        assert searcher._model.budget == (None if i < 4 else 1 if i < 9 else 9)
        searcher.on_trial_complete(str(i))


def test_bohb_without_budgets(caplog: pytest.LogCaptureFixture) -> None:
    """It says once that it needs its scheduler."""
    searcher = ready("bohb")
    searcher.suggest("a")
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        searcher.on_trial_result("a", {"loss": 1.0})
        searcher.on_trial_result("a", {"loss": 1.0})
    assert caplog.text.count("Use it with") == 1


def test_bohb_limits_itself() -> None:
    """Paused trials make room, those that go on take it again."""
    searcher = ready("bohb", max_concurrent=2)
    limiter = ConcurrencyLimiter(searcher, 2)
    assert limiter.suggest("a")
    assert limiter.suggest("b")
    assert limiter.suggest("c") is None
    limiter.on_pause("a")
    assert limiter.suggest("c")
    limiter.on_unpause("a")
    limiter.on_trial_complete("b")
    assert limiter.suggest("d") is None
    with pytest.raises(ValueError, match="contradicts"):
        ConcurrencyLimiter(searcher, 3)
    with pytest.raises(TypeError, match="Did you mean 'num_samples'"):
        _bohb(bohb_config={"num_sample": 3})


def test_bohb_conditional_configuration_spaces() -> None:
    """Inactive variables are left out, and the model copes with them."""
    kinds = pytest.importorskip("ConfigSpace")
    space = kinds.ConfigurationSpace(seed=1)
    opt = kinds.CategoricalHyperparameter("opt", ["sgd", "adam"])
    momentum = kinds.UniformFloatHyperparameter("m/momentum", 0, 1)
    space.add(opt, momentum)
    space.add(kinds.EqualsCondition(momentum, opt, "sgd"))
    searcher = _bohb(space=space, metric="loss", mode="min", bohb_config={"random_fraction": 0.1})
    for i in range(30):
        config = searcher.suggest(str(i))
        assert ("m" in config) == (config["opt"] == "sgd")
        good = config["opt"] == "sgd" and config["m"]["momentum"] > 0.5
        searcher.on_trial_result(
            str(i), {"loss": 0.0 if good else 1.0, "hyperband_info": {"budget": 1}}
        )
        searcher.on_trial_complete(str(i))
    assert searcher._model.budget == 1


def test_ax_clients() -> None:
    """A client that is ready is used as it is, and nothing else may be given."""
    pytest.importorskip("ax")
    from ax.service.ax_client import AxClient, ObjectiveProperties

    from milepost.tune.search.ax import AxSearch

    client = AxClient(random_seed=1)
    client.create_experiment(
        parameters=[{"name": "x", "type": "range", "bounds": [0.0, 1.0]}],
        objectives={"q": ObjectiveProperties(minimize=True)},
    )
    searcher = AxSearch(ax_client=client)
    assert (searcher.metric, searcher.mode) == ("q", "min")
    assert 0 <= searcher.suggest("a")["x"] <= 1  # type: ignore[index]
    with pytest.raises(ValueError, match="leave out all other"):
        AxSearch(ax_client=client, metric="q")
