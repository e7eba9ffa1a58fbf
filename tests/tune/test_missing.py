"""Names that this version does not have say so, however they are asked for."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import milepost
from milepost import tune
from milepost.api.available import SCHEDULERS, SEARCH_ALGORITHMS
from milepost.tune import schedulers
from milepost.tune.search import BasicVariantGenerator, Repeater, Searcher
from milepost.tune.search.hyperopt import HyperOptSearch
from milepost.tune.stopper import CombinedStopper, MaximumIterationStopper, Stopper

MISSING = [
    ("milepost.tune.schedulers", "PB2", "from milepost.tune.schedulers.pb2 import PB2"),
    ("milepost.tune.schedulers", "pb3", "Available are: .*FIFOScheduler"),
    ("milepost.tune.schedulers", "ASHASheduler", "Did you mean 'ASHAScheduler'"),
    ("milepost.tune.schedulers", "FIFOSheduler", "Did you mean 'FIFOScheduler'"),
    ("milepost.tune.search", "OptunaSearch", "Available are: .*Searcher"),
    ("milepost.tune.search", "sigopt", "Available are: .*Searcher"),
    ("milepost.tune.logger", "UnifiedLogger", "Available are: .*CSVLoggerCallback"),
    ("milepost.tune.stopper", "MaxIterationStopper", "Did you mean 'MaximumIterationStopper'"),
    ("milepost.tune.integration", "jax", "Available are: keras"),
    ("milepost.tune", "Tunner", "Did you mean 'Tuner'"),
    ("milepost.tune", "automl", "of Milepost"),
    ("milepost.train", "trainer", "Trainers are in milepost.train.torch"),
    ("milepost.air", "RunConfig", "from milepost.tune import RunConfig"),
    ("milepost.air", "session", "Available are: integrations"),
    ("milepost", "available_resources", "milepost.cluster_resources"),
    ("milepost", "put", "with_parameters"),
]


@pytest.mark.parametrize(("module", "name", "says"), MISSING)
def test_names_that_are_not_there(module: str, name: str, says: str) -> None:
    """An attribute and a ``from`` import both fail with the version and what there is instead."""
    owner = import_module(module)
    expected = (
        f"{module}' has no attribute '{name}' in this version .{milepost.__version__}.*{says}"
    )
    with pytest.raises(AttributeError, match=expected):
        getattr(owner, name)
    with pytest.raises(ImportError, match=expected):
        exec(f"from {module} import {name}", {})
    assert not hasattr(owner, name)
    assert name not in dir(owner)


def test_submodules_that_no_list_names_can_be_imported() -> None:
    """The error for missing names does not stand in the way of the import system."""
    namespace: dict[str, Any] = {}
    exec("from milepost.tune.search import bounds, tags\nfrom milepost import api", namespace)
    assert namespace["bounds"].__name__ == "milepost.tune.search.bounds"


def test_everything_that_may_be_chosen_by_name_can_be_made(tmp_path: Path) -> None:
    """What configs accept as names is what can be created."""
    policy = tmp_path / "pbt_policy_a_00000.txt"
    policy.write_text('["a_00000", "a_00001", 4, 4, {"lr": 0.1}, {"lr": 0.2}]\n')
    needed: dict[str, dict[str, Any]] = {
        "pbt": {"hyperparam_mutations": {"lr": [0.1, 0.2]}},
        "pb2": {"hyperparam_bounds": {"lr": [0.0, 1.0]}},
        "pbt_replay": {"policy_file": str(policy)},
    }
    for name in SCHEDULERS:
        made = tune.create_scheduler(name, **needed.get(name, {}))
        assert isinstance(made, tune.schedulers.TrialScheduler)
    for name in SEARCH_ALGORITHMS:
        if name == "ax" and find_spec("ax") is None:
            continue  # large, and not installed with the others
        found = tune.create_searcher(name)
        assert isinstance(found, tune.search.SearchAlgorithm | tune.search.Searcher)


class Own(Stopper):
    """A stopper of a user."""

    def __init__(self, epochs: int = 3) -> None:
        self.epochs = epochs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return False


class Loose(Own):
    """One that takes whatever is given."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options


def test_constructors_of_users_stay_as_they_are() -> None:
    """They can be seen, called by name or in order, and pickled; one may take any keyword."""
    assert str(inspect.signature(Own)) == "(epochs: 'int' = 3) -> 'None'"
    assert (Own(epochs=4).epochs, Own(5).epochs) == (4, 5)
    assert Loose(anything=1).options == {"anything": 1}
    namespace: dict[str, Any] = {"Own": Own, "__name__": "__main__"}
    exec("class Local(Own):\n    def __init__(self, n):\n        super().__init__(n)", namespace)
    local = cloudpickle.loads(cloudpickle.dumps(namespace["Local"](7)))
    assert local.epochs == 7
    with pytest.raises(TypeError, match="Local"):
        type(local)(m=7)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tune.Tuner(print, paramspace={}), "Tuner.. got .* Did you mean 'param_space'"),
        (lambda: tune.run(print, num_sample=3), "run.. got .* Did you mean 'num_samples'"),
        (lambda: tune.run_experiments({}, schedular=1), "Did you mean 'scheduler'"),
        (lambda: tune.Experiment("x", print, num_sample=2), "Did you mean 'num_samples'"),
        (lambda: schedulers.ASHAScheduler(max_T=3), "AsyncHyperBandScheduler.. got .* 'max_t'"),
        (lambda: schedulers.HyperBandForBOHB(max_T=3), "Did you mean 'max_t'"),
        (lambda: schedulers.PopulationBasedTraining(perturbation_intervall=3), "_interval'"),
        (lambda: schedulers.pb2.PB2(hyperparam_bound={}), "PB2.. got .* 'hyperparam_bounds'"),
        (lambda: HyperOptSearch(gama=3), "HyperOptSearch.. got .* Did you mean 'gamma'"),
        (lambda: BasicVariantGenerator(point_to_evaluate=[]), "'points_to_evaluate'"),
        (lambda: Repeater(Searcher(), repeats=3), "Did you mean 'repeat'"),
        (lambda: MaximumIterationStopper(maxiter=3), "Did you mean 'max_iter'"),
        (lambda: CombinedStopper(stoppers=[]), "CombinedStopper.. got .* 'stoppers'.$"),
        (lambda: Own(epoch=3), "Own.. got .* Did you mean 'epochs'"),
    ],
)
def test_misspelt_arguments_are_answered_with_the_closest(call: Any, says: str) -> None:
    """Entry points treat keywords as configs treat fields."""
    with pytest.raises(TypeError, match=says):
        call()
