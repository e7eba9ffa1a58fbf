"""Arguments of searchers, schedulers and stoppers that cannot be meant."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune.schedulers import PopulationBasedTraining
from milepost.tune.schedulers.pb2 import PB2
from milepost.tune.search import Repeater
from milepost.tune.stopper import FunctionStopper, TrialPlateauStopper

# --- stop functions -------------------------------------------------------------------------


def of_one(result: dict[str, Any]) -> bool:
    return True


def of_three(trial_id: str, result: dict[str, Any], limit: float) -> bool:
    return True


class Called:
    """Is called like a stop function that takes one argument."""

    def __call__(self, result: dict[str, Any]) -> bool:
        return True


@pytest.mark.parametrize("stop", [of_one, of_three, Called(), lambda: True])
def test_a_stop_function_takes_two_arguments(stop: Any) -> None:
    """One that could not be called during the run is refused where it is written."""
    for make in (lambda: tune.RunConfig(stop=stop), lambda: FunctionStopper(stop)):
        with pytest.raises(ValueError, match=r"\(trial_id, result\)"):
            make()


def test_stop_functions_that_can_be_called() -> None:
    """Defaults, partials, stars, and built-in functions without a signature."""
    for stop in (
        lambda trial_id, result: True,
        lambda *args: True,
        lambda trial_id, result, limit=3: True,
        functools.partial(of_three, limit=3),
        max,
    ):
        tune.RunConfig(stop=stop)
        FunctionStopper(stop)


# --- populations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutation", "advice"),
    [
        (tune.grid_search([1, 2]), r"'lr' is a grid.*\[1, 2\]"),
        ({"eval": "1 + 1"}, "'lr' is an expression"),
    ],
)
def test_mutations_that_nothing_can_be_drawn_from(mutation: Any, advice: str) -> None:
    """A grid or an expression is refused by the scheduler, not at the first exploit."""
    with pytest.raises(ValueError, match=advice):
        PopulationBasedTraining(hyperparam_mutations={"lr": mutation})
    with pytest.raises(ValueError, match=advice):
        PopulationBasedTraining(hyperparam_mutations={"net": {"lr": mutation}})


def test_bounds_that_are_a_grid() -> None:
    """PB2 takes no grid for a dict of nested bounds."""
    with pytest.raises(ValueError, match=r"'lr' .*grid"):
        PB2(hyperparam_bounds={"lr": tune.grid_search([1, 2])})


# --- points to evaluate ---------------------------------------------------------------------

SPACE = {
    "lr": tune.uniform(0, 1),
    "n": {"width": tune.randint(1, 9)},
    "act": tune.choice(["relu", "tanh"]),
}
FINE = {"lr": 0.5, "n": {"width": 2}, "act": "relu"}
MODULES = {"bayesopt": "bayes_opt", "bohb": "ConfigSpace"}


def library(name: str, **options: Any) -> Any:
    pytest.importorskip(MODULES.get(name, name))
    return tune.create_searcher(name, **options)


def make(tmp_path: Path, searcher: Any, space: Any = None) -> tune.Tuner:
    return tune.Tuner(
        lambda config: None,
        param_space=SPACE if space is None else space,
        tune_config=tune.TuneConfig(metric="q", mode="max", search_alg=searcher),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "store"), verbose=0),
    )


@pytest.mark.parametrize("name", ["nevergrad", "bohb", "ax"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lr": 7.0}, r"7\.0 for 'lr', outside of uniform\(0, 1\)"),
        ({"lr": "x"}, r"'x' for 'lr', outside of"),
        ({"n": {"width": 9}}, r"9 for 'n/width', outside of randint\(1, 9\)"),
        ({"act": "sigmoid"}, r"'sigmoid' is no value of 'act'"),
        ({"n": {}}, "no value for n/width"),
    ],
)
def test_points_that_a_library_cannot_take(
    tmp_path: Path, name: str, wrong: Any, said: str
) -> None:
    """The Tuner names the point, the variable and its bounds."""
    points = [FINE, {**FINE, **wrong}]
    with pytest.raises(ValueError, match=said):
        make(tmp_path, library(name, points_to_evaluate=points))
    with pytest.raises(ValueError, match=said):
        make(tmp_path, Repeater(library(name, points_to_evaluate=points), 1))
    with pytest.raises(ValueError, match=said):
        library(name, space=SPACE, metric="q", mode="max", points_to_evaluate=points)
    assert not (tmp_path / "store").exists()
    make(tmp_path, library(name, points_to_evaluate=[FINE]))


@pytest.mark.parametrize("name", ["optuna", "hyperopt"])
def test_points_that_are_no_choice(tmp_path: Path, name: str) -> None:
    """A value that is not to choose from is refused by the Tuner; others may be left out."""
    with pytest.raises(ValueError, match="'sigmoid' is no value of 'act'"):
        make(tmp_path, library(name, points_to_evaluate=[{"act": "sigmoid"}]))
    make(tmp_path, library(name, points_to_evaluate=[{"act": "relu"}, {"lr": 7.0}]))


def test_points_that_leave_something_out(tmp_path: Path) -> None:
    """A library that draws none of the rest wants all values."""
    space = {"a": tune.uniform(0, 1), "b": tune.uniform(0, 1)}
    with pytest.raises(ValueError, match="no value for b"):
        make(tmp_path, library("bayesopt", points_to_evaluate=[{"a": 1}]), space)


def test_points_in_the_terms_of_nevergrad() -> None:
    """A point that a parametrization cannot take is refused by the constructor, by name."""
    ng = pytest.importorskip("nevergrad")
    space = ng.p.Dict(u=ng.p.Scalar(lower=0, upper=1))
    for point, said in (({"u": 7.0}, r"7\.0"), ({"v": 0.5}, "'v'")):
        with pytest.raises(ValueError, match=rf"point to evaluate .*{said}"):
            library("nevergrad", space=space, metric="q", mode="max", points_to_evaluate=[point])
    made = ng.optimizers.OnePlusOne(ng.p.Array(shape=(2,)))
    with pytest.raises(ValueError, match=r"point to evaluate .*'v'"):
        library(
            "nevergrad",
            optimizer=made,
            space=["u", "v"],
            metric="q",
            mode="max",
            points_to_evaluate=[{"u": 0.5}],
        )


def test_points_in_the_terms_of_config_space() -> None:
    """A point that a ConfigurationSpace cannot take is refused by the constructor, by name."""
    kinds = pytest.importorskip("ConfigSpace")
    space = kinds.ConfigurationSpace({"u": (0.0, 1.0)})
    for point in ({"u": 7.0}, {"v": 0.5}):
        with pytest.raises(ValueError, match=r"point to evaluate \{"):
            library("bohb", space=space, metric="q", mode="max", points_to_evaluate=[point])


@pytest.mark.parametrize("name", ["hyperopt", "bayesopt"])
def test_points_outside_of_the_bounds(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Libraries that take them use them; the log names the variable, as for random search."""
    space = {"lr": tune.uniform(0, 1)}
    searcher = library(name, points_to_evaluate=[{"lr": 0.5}, {"lr": 7.0}])
    with caplog.at_level(logging.WARNING, "milepost.tune"):
        assert searcher.set_search_properties("q", "max", space)
        assert [searcher.suggest(i) for i in "ab"] == [{"lr": 0.5}, {"lr": 7.0}]
    (told,) = caplog.messages
    assert "{'lr': 7.0} has 7.0 for 'lr', outside of uniform(0, 1)" in told


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("hyperopt", {"gamma": 2}, ValueError, r"gamma=\.\.\.\) must be above 0 .* got 2"),
        ("hyperopt", {"gamma": 0}, ValueError, "gamma"),
        ("hyperopt", {"gamma": float("nan")}, ValueError, "gamma"),
        ("hyperopt", {"gamma": "a"}, TypeError, "gamma=.*must be a number, got 'a'"),
        ("hyperopt", {"n_initial_points": -1}, ValueError, r"n_initial_points .*at least 0.* -1"),
        ("hyperopt", {"n_initial_points": "3"}, TypeError, r"n_initial_points .*whole number"),
        ("hyperopt", {"random_state_seed": "a"}, TypeError, "random_state_seed .*whole number"),
        ("bayesopt", {"random_search_steps": -1}, ValueError, "random_search_steps .*at least 0"),
        ("bayesopt", {"random_state": "a"}, TypeError, "random_state .*whole number"),
        ("bayesopt", {"patience": "a"}, TypeError, "patience .*whole number"),
        ("bayesopt", {"utility_kwargs": {"kind": "zzz"}}, ValueError, r"kind='zzz'.*ucb"),
        ("bayesopt", {"utility_kwargs": {"kind": "uc"}}, ValueError, "Did you mean 'ucb'"),
        ("bayesopt", {"utility_kwargs": {"kapa": 2}}, ValueError, "Did you mean 'kappa'"),
        ("bayesopt", {"utility_kwargs": {"xi": "a"}}, TypeError, "xi.*must be a number, got 'a'"),
        ("bayesopt", {"utility_kwargs": "ucb"}, TypeError, "utility_kwargs.* dict"),
        ("bohb", {"max_concurrent": -1}, ValueError, "max_concurrent .*at least 0.*no limit"),
        ("bohb", {"max_concurrent": "a"}, TypeError, "max_concurrent .*whole number"),
        ("bohb", {"seed": "a"}, TypeError, "seed .*whole number"),
        ("bohb", {"bohb_config": {"num_samples": 0}}, ValueError, "num_samples.* above 0, got 0"),
        ("bohb", {"bohb_config": {"num_samples": "a"}}, TypeError, "num_samples.*number, got 'a'"),
        ("bohb", {"bohb_config": {"random_fraction": 2}}, ValueError, "at most 1, got 2"),
        ("optuna", {"seed": "a"}, TypeError, r"OptunaSearch\.seed must be a whole number, got 'a'"),
        ("optuna", {"seed": -1}, ValueError, r"OptunaSearch\.seed must be at least 0"),
    ],
)
def test_arguments_of_searchers(name: str, options: Any, error: type[Exception], said: str) -> None:
    """Values that no search can be made with are refused by the constructor."""
    with pytest.raises(error, match=said):
        library(name, **options)


def test_arguments_of_searchers_that_are_fine() -> None:
    """Bounds are included, whole numbers may be of other types, and None stands for the default."""
    import numpy as np

    library("hyperopt", gamma=1, n_initial_points=0, random_state_seed=np.int64(3))
    library("bayesopt", random_search_steps=0, patience=None, random_state=None)
    library("bayesopt", utility_kwargs={"kind": "ei", "xi": 0.1})
    library("bohb", max_concurrent=0, seed=None, bohb_config={"min_points_in_model": None})
    library("optuna", seed=0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_results": 0}, ValueError),
        ({"num_results": 2.5}, TypeError),
        ({"grace_period": -1}, ValueError),
        ({"std": -1.0}, ValueError),
        ({"std": "a"}, TypeError),
        ({"metric_threshold": "a", "mode": "min"}, TypeError),
        ({"metric": 3}, TypeError),
        ({"mode": "mni"}, ValueError),
    ],
)
def test_arguments_of_the_plateau_stopper(options: Any, error: type[Exception]) -> None:
    """Each is named with its value."""
    with pytest.raises(error, match=next(iter(options))):
        TrialPlateauStopper(**{"metric": "q", **options})


@pytest.mark.parametrize("path", [None, 3, b"x"])
def test_checkpoints_without_a_path(path: Any) -> None:
    """What is no path is named, with what to give."""
    with pytest.raises(TypeError, match=r"path of a directory, got (None|3|b'x')"):
        tune.Checkpoint.from_directory(path)
    with pytest.raises(TypeError, match=r"path of a directory, got (None|3|b'x')"):
        tune.Checkpoint(path)
