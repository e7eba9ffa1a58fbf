"""Trainables, searchers, schedulers and metrics that do not go together: ``Tuner`` says so.

Each error comes from the constructor, and leaves nothing on disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.errors import TuneError
from milepost.tune.plan import plan_for
from milepost.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    ResourceChangingScheduler,
)
from milepost.tune.schedulers.pb2 import PB2
from milepost.tune.search import ConcurrencyLimiter, Repeater, Searcher
from milepost.tune.search.basic_variant import BasicVariantGenerator
from milepost.tune.setup import describe

LR = {"lr": tune.uniform(0, 1)}


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


class Plain(tune.Trainable):
    """Saves nothing."""

    def step(self) -> dict[str, Any]:
        return {"q": 1.0, "done": True}


class Saves(Plain):
    """Can save, and cannot load."""

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"x": 1}


class Whole(Saves):
    """Can save and load."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""


class Open(Searcher):
    """Takes over the space of the run."""

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"lr": 1}

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Learn nothing."""


def population(kind: Any = PopulationBasedTraining, **options: Any) -> Any:
    named = "hyperparam_bounds" if kind is PB2 else "hyperparam_mutations"
    return kind(perturbation_interval=1, **{named: {"lr": [0.0, 1.0]}, **options})


def make(tmp_path: Path, trainable: Any = train, space: Any = None, **options: Any) -> tune.Tuner:
    return tune.Tuner(
        trainable,
        param_space=LR if space is None else space,
        tune_config=tune.TuneConfig(**options),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path / "store"), verbose=0),
    )


def scored(tmp_path: Path, trainable: Any = train, space: Any = None, **options: Any) -> tune.Tuner:
    return make(tmp_path, trainable, space, metric="q", mode="max", **options)


def policy(tmp_path: Path, *lines: Any) -> str:
    path = tmp_path / "policy.txt"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)


# --- checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: HyperBandScheduler(max_t=4),
        lambda: HyperBandForBOHB(max_t=4),
        population,
        lambda: population(PB2),
        ResourceChangingScheduler,
        lambda: ResourceChangingScheduler(HyperBandScheduler(max_t=4), None),
    ],
    ids=["hyperband", "bohb", "pbt", "pb2", "resources", "inner"],
)
@pytest.mark.parametrize(
    ("trainable", "missing"),
    [(Plain, r"save_checkpoint\(\) and load_checkpoint\(\)"), (Saves, r"load_checkpoint\(\)")],
    ids=["neither", "only-save"],
)
def test_a_class_that_cannot_go_on(
    tmp_path: Path, scheduler: Any, trainable: Any, missing: str
) -> None:
    """A scheduler that pauses trials, and a class whose paused trials could not go on: an error."""
    with pytest.raises(ValueError, match=f"{trainable.__name__}.* must define {missing}"):
        scored(tmp_path, trainable, scheduler=scheduler())
    assert not (tmp_path / "store").exists()
    scored(tmp_path, Whole, scheduler=scheduler())
    scored(tmp_path, train, scheduler=scheduler())


def test_a_replay_needs_a_class_that_can_go_on(tmp_path: Path) -> None:
    """Each change of the config is made from a checkpoint; without changes there is no need."""
    changed = PopulationBasedTrainingReplay(
        policy(tmp_path, ["0_a", "1_b", 2, 2, {"lr": 1}, {"lr": 2}])
    )
    with pytest.raises(ValueError, match="must define save_checkpoint"):
        scored(tmp_path, Plain, scheduler=changed)
    scored(tmp_path, Plain, scheduler=PopulationBasedTrainingReplay(policy(tmp_path)))


@pytest.mark.parametrize(
    "scheduler",
    [
        ASHAScheduler,
        MedianStoppingRule,
        FIFOScheduler,
        lambda: ResourceChangingScheduler(None, None),
    ],
)
def test_a_class_need_not_save_for_others(tmp_path: Path, scheduler: Any) -> None:
    """Schedulers that need not pause take any class."""
    scored(tmp_path, Plain, scheduler=scheduler())


# --- metric and mode ------------------------------------------------------------------------

COMPARING: list[Any] = [
    ASHAScheduler,
    MedianStoppingRule,
    lambda **options: HyperBandScheduler(max_t=4, **options),
    population,
    lambda **options: population(PB2, **options),
    lambda **options: ResourceChangingScheduler(ASHAScheduler(**options)),
]
EACH = pytest.mark.parametrize(
    "scheduler", COMPARING, ids=["asha", "median", "hyperband", "pbt", "pb2", "resources"]
)


@EACH
def test_a_scheduler_needs_a_metric_and_a_mode(tmp_path: Path, scheduler: Any) -> None:
    """They come from the scheduler or the run; a mode alone compares by the default metric."""
    with pytest.raises(ValueError, match=r"needs a metric and a mode, got metric=None, mode=None"):
        make(tmp_path, scheduler=scheduler())
    with pytest.raises(ValueError, match=r"needs a metric and a mode, got metric='q', mode=None"):
        make(tmp_path, metric="q", scheduler=scheduler())
    assert not (tmp_path / "store").exists()
    scored(tmp_path, scheduler=scheduler())
    make(tmp_path, scheduler=scheduler(metric="q", mode="max"))
    make(tmp_path, metric="q", scheduler=scheduler(mode="max"))
    make(tmp_path, mode="max", scheduler=scheduler())


@EACH
def test_a_metric_in_two_places(tmp_path: Path, scheduler: Any) -> None:
    """A scheduler that has its own, and a run that gives one: set them in one place."""
    with pytest.raises(ValueError, match=r"has a metric or mode of its own.*metric='q'"):
        make(tmp_path, metric="q", scheduler=scheduler(metric="q", mode="max"))
    with pytest.raises(ValueError, match=r"has a metric or mode of its own.*mode='max'"):
        make(tmp_path, mode="max", scheduler=scheduler(metric="q", mode="max"))
    assert not (tmp_path / "store").exists()


def test_by_name(tmp_path: Path) -> None:
    """A scheduler that is given by its name is checked as well, its arguments too."""
    with pytest.raises(ValueError, match=r"AsyncHyperBandScheduler .* needs a metric and a mode"):
        make(tmp_path, scheduler="async_hyperband")
    with pytest.raises(TuneError, match="hyperparam_mutations"):
        scored(tmp_path, scheduler="pbt")
    scored(tmp_path, scheduler="async_hyperband")


def test_a_scheduler_of_the_users_own(tmp_path: Path) -> None:
    """One that knows its metric, or says itself what it takes over, is believed."""

    class Owned(FIFOScheduler):
        _metric = "own"

    class Lenient(ASHAScheduler):
        def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
            return super().set_search_properties("q", "max")

    with pytest.raises(ValueError, match="Owned has a metric or mode of its own"):
        make(tmp_path, metric="other", scheduler=Owned())
    make(tmp_path, scheduler=Owned())
    make(tmp_path, scheduler=Lenient())


def test_nothing_is_taken_over_by_a_check(tmp_path: Path) -> None:
    """Tuners that are never run leave a scheduler as it was, so others can be made with it."""
    scheduler = ASHAScheduler()
    for _ in range(2):
        scored(tmp_path, scheduler=scheduler)
    assert scheduler.metric is None
    limiter = ConcurrencyLimiter(Open(), max_concurrent=2)
    for _ in range(2):
        scored(tmp_path, search_alg=limiter)


# --- searchers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PopulationBasedTraining, PB2])
def test_a_population_and_a_searcher(tmp_path: Path, kind: Any) -> None:
    """Both would choose the configs."""
    with pytest.raises(ValueError, match=f"{kind.__name__} .* searcher Open"):
        scored(tmp_path, scheduler=population(kind), search_alg=Open())
    with pytest.raises(ValueError, match="searcher ConcurrencyLimiter"):
        scored(tmp_path, scheduler=population(kind), search_alg=ConcurrencyLimiter(Open(), 1))
    assert not (tmp_path / "store").exists()
    scored(tmp_path, scheduler=population(kind), search_alg=BasicVariantGenerator())
    scored(tmp_path, scheduler=population(kind), search_alg="random")


def test_a_replay_trains_one_trial(tmp_path: Path) -> None:
    """More samples, or a grid, are refused before the first of them runs."""
    for options in ({"num_samples": 2}, {"space": {"lr": tune.grid_search([1, 2])}}):
        with pytest.raises(ValueError, match="trains one trial"):
            scored(tmp_path, scheduler=PopulationBasedTrainingReplay(policy(tmp_path)), **options)
    scored(tmp_path, scheduler=PopulationBasedTrainingReplay(policy(tmp_path)))


def test_resources_and_reused_workers(tmp_path: Path) -> None:
    """The resources of a worker are fixed."""
    with pytest.raises(ValueError, match="reuse_actors"):
        scored(tmp_path, scheduler=ResourceChangingScheduler(), reuse_actors=True)


def test_a_space_of_the_searchers_own(tmp_path: Path) -> None:
    """Search variables that nobody would resolve are refused by the constructor."""

    class Fixed(Open):
        set_search_properties = Searcher.set_search_properties

    with pytest.raises(ValueError, match="Fixed searches a space of its own"):
        scored(tmp_path, search_alg=Fixed())
    with pytest.raises(ValueError, match="Fixed searches a space of its own"):
        scored(tmp_path, search_alg=Repeater(Fixed(), 2), num_samples=2)
    assert not (tmp_path / "store").exists()
    scored(tmp_path, space={"data": "x"}, search_alg=Fixed())


def test_limits_that_contradict_each_other(tmp_path: Path) -> None:
    """Two limits of concurrency must be one."""
    limiter = ConcurrencyLimiter(Open(), max_concurrent=2)
    with pytest.raises(ValueError, match=r"max_concurrent_trials=3\).*max_concurrent=2"):
        scored(tmp_path, search_alg=limiter, max_concurrent_trials=3)
    scored(tmp_path, search_alg=limiter, max_concurrent_trials=2)


def test_no_searcher_at_all(tmp_path: Path) -> None:
    """An object that only looks like one is refused by the constructor."""

    class Alike:
        def suggest(self, trial_id: str) -> None:
            """Suggest nothing."""

    with pytest.raises(TypeError, match=r"must derive from milepost\.tune\.search\.Searcher"):
        scored(tmp_path, search_alg=Alike())


def test_a_point_that_is_not_in_the_space(tmp_path: Path) -> None:
    """Random search is given points when it is made, and the space by the Tuner."""
    search = BasicVariantGenerator(points_to_evaluate=[{"lrr": 1}])
    with pytest.raises(KeyError, match="Did you mean 'lr'"):
        scored(tmp_path, search_alg=search)
    with pytest.raises(ValueError, match="must be a list of values"):
        scored(tmp_path, space={"lr": {"grid_search": "abc"}})
    assert not (tmp_path / "store").exists()


# --- searchers over libraries ---------------------------------------------------------------

LIBRARIES = pytest.mark.parametrize("name", ["optuna", "hyperopt", "bayesopt", "nevergrad", "bohb"])


def library(name: str, **options: Any) -> Any:
    pytest.importorskip({"bayesopt": "bayes_opt", "bohb": "ConfigSpace"}.get(name, name))
    return tune.create_searcher(name, **options)


@LIBRARIES
def test_a_library_needs_a_metric_and_a_mode(tmp_path: Path, name: str) -> None:
    """They come from the searcher or the run; a mode alone optimizes the default metric."""
    with pytest.raises(ValueError, match="metric=None and mode=None, and needs both"):
        make(tmp_path, search_alg=library(name))
    with pytest.raises(ValueError, match="metric='q' and mode=None, and needs both"):
        make(tmp_path, metric="q", search_alg=Repeater(library(name), 1))
    with pytest.raises(ValueError, match="metric=None and mode=None, and needs both"):
        make(tmp_path, search_alg=name)
    assert not (tmp_path / "store").exists()
    scored(tmp_path, search_alg=library(name))
    make(tmp_path, search_alg=library(name, metric="q", mode="max"))
    make(tmp_path, search_alg=library(name, mode="max"))


@LIBRARIES
def test_a_library_needs_a_space(tmp_path: Path, name: str) -> None:
    """One with variables, that the library can be told of, and in one place."""
    with pytest.raises(ValueError, match="has no search space"):
        scored(tmp_path, space={"lr": 1}, search_alg=library(name))
    with pytest.raises(ValueError, match="it is a grid"):
        scored(tmp_path, space={"lr": tune.grid_search([1])}, search_alg=library(name))
    searcher = library(name, space=LR, metric="q", mode="max")
    with pytest.raises(ValueError, match="searches a space of its own"):
        scored(tmp_path, search_alg=searcher)
    assert not (tmp_path / "store").exists()
    scored(tmp_path, space={"data": 1}, search_alg=searcher)
    scored(tmp_path, space={}, search_alg=searcher)


def test_a_second_fit_says_why_it_cannot_be(tmp_path: Path) -> None:
    """Searchers and schedulers belong to one run; the error comes before there is a directory."""
    tuner = tune.Tuner(
        train,
        param_space={"lr": 1},
        tune_config=tune.TuneConfig(metric="q", mode="max", scheduler=ASHAScheduler()),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    tuner.fit()
    with pytest.raises(ValueError, match=r"AsyncHyperBandScheduler .*an earlier run"):
        tuner.fit()
    assert len(list(tmp_path.iterdir())) == 1


# --- doubts ---------------------------------------------------------------------------------

BEGUN = {"lr": tune.uniform(0, 1), "net": {"width": tune.randint(1, 9), "depth": 2}}


def told(tmp_path: Path, caplog: pytest.LogCaptureFixture, scheduler: Any, space: Any) -> list[str]:
    """What the log says when a run with a scheduler is planned; nothing when it is described."""

    def create() -> Any:
        raise InterruptedError("enough is known")

    with caplog.at_level("WARNING", "milepost.tune"):
        experiment = scored(tmp_path, space=space, scheduler=scheduler)._experiment
        assert not caplog.messages
        with pytest.raises(InterruptedError):
            plan_for(experiment, create, describe(experiment), save_at_end=True)
    return caplog.messages


@pytest.mark.parametrize(
    ("mutations", "wrong", "right"),
    [
        ({"lrr": tune.uniform(0, 1)}, "'lrr'", "'lr'"),
        ({"net": {"widht": [1, 2]}}, "'net/widht'", "'width'"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_misspelt_mutation(
    tmp_path: Path, caplog: Any, mutations: Any, wrong: str, right: str, wrapped: bool
) -> None:
    """A name that the space lacks, and is close to one that does not change, is asked about."""
    scheduler: Any = PopulationBasedTraining(hyperparam_mutations=mutations)
    if wrapped:
        scheduler = ResourceChangingScheduler(scheduler)
    (message,) = told(tmp_path, caplog, scheduler, BEGUN)
    assert f"PopulationBasedTraining changes {wrong}, which param_space does not have" in message
    assert message.endswith(f"Did you mean {right}?")


def test_misspelt_bounds(tmp_path: Path, caplog: Any) -> None:
    """The same with PB2."""
    (message,) = told(tmp_path, caplog, PB2(hyperparam_bounds={"lrr": [0, 1]}), BEGUN)
    assert "PB2 changes 'lrr', which param_space does not have" in message


@pytest.mark.parametrize(
    "mutations",
    [
        {"lr": [1, 2]},
        {"momentum": [1, 2]},
        {"lr": [1, 2], "lr2": [1, 2]},
        {"net": {"width": [1, 2]}},
        {"net": {"other": [1, 2]}},
    ],
)
def test_mutations_that_are_meant(tmp_path: Path, caplog: Any, mutations: Any) -> None:
    """What is in the space, or like nothing in it, or beside its like, is said nothing about."""
    scheduler = PopulationBasedTraining(hyperparam_mutations=mutations)
    assert told(tmp_path, caplog, scheduler, BEGUN) == []


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        (tune.uniform(0, 1), "uniform(0, 1)"),
        (tune.randn(), "randn(0.0, 1.0)"),
        (tune.randint(2, 5), "randint(2, 5)"),
        (tune.grid_search([1, 2]), "{'grid_search': [1, 2]}"),
        (tune.choice([2, 7]), "choice([2, 7])"),
        (1, "1"),
    ],
)
def test_trials_that_begin_out_of_bounds(
    tmp_path: Path, caplog: Any, value: Any, begins: str
) -> None:
    """PB2 chooses within its bounds, but trials begin where param_space says."""
    scheduler = PB2(hyperparam_bounds={"net": {"lr": [2, 3]}})
    (message,) = told(tmp_path, caplog, scheduler, {"net": {"lr": value}})
    assert f"'net/lr' from 2 to 3, and trials begin with {begins}" in message


@pytest.mark.parametrize(
    "value", [tune.uniform(2, 3), tune.randint(2, 4), tune.grid_search([2, 3]), 2.5, "x", None]
)
def test_trials_that_begin_within_bounds(tmp_path: Path, caplog: Any, value: Any) -> None:
    """Nothing is said of those, nor of what is no number."""
    scheduler = PB2(hyperparam_bounds={"lr": [2, 3]})
    assert told(tmp_path, caplog, scheduler, {"lr": value}) == []
