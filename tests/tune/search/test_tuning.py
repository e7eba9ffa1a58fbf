"""Searchers end to end: whole runs with each, and that they find what random search does not."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune.search import create_searcher

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]

BEST = (1.5, -2.0)


def bowl(config: dict[str, Any]) -> None:
    """A known function: its minimum, 0, is at BEST."""
    loss = (config["x"] - BEST[0]) ** 2 + (config["m"]["y"] - BEST[1]) ** 2
    tune.report({"loss": loss, "hyperband_info": {"budget": 1}})


def fit(tmp_path: Path, train: Any, space: Any, search_alg: Any, **options: Any) -> Any:
    results = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(search_alg=search_alg, **options),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert not results.errors
    return results


def expected_of_random(trials: int) -> float:
    """What the best of so many random trials is on average."""
    import numpy as np

    draws = np.random.default_rng(0).uniform(-4, 4, (2000, trials, 2))
    return float(((draws - BEST) ** 2).sum(axis=2).min(axis=1).mean())


@pytest.mark.parametrize(
    ("name", "trials", "options"),
    [
        ("optuna", 30, {"seed": 1}),
        ("hyperopt", 40, {"random_state_seed": 1, "n_initial_points": 8}),
        ("nevergrad", 40, {}),
        ("bohb", 40, {"seed": 1}),
        ("bayesopt", 14, {"random_state": 1, "random_search_steps": 5}),
    ],
)
def test_the_optimum_is_found_better_than_at_random(
    name: str, trials: int, options: dict[str, Any], tmp_path: Path
) -> None:
    """With a space of the run, the best trial is far better than random search's on average."""
    import numpy as np

    pytest.importorskip({"bayesopt": "bayes_opt", "bohb": "ConfigSpace"}.get(name, name))
    np.random.seed(4)  # Nevergrad takes its seed from here
    results = fit(
        tmp_path,
        bowl,
        {"x": tune.uniform(-4, 4), "m": {"y": tune.uniform(-4, 4), "constant": 1}},
        create_searcher(name, **options),
        metric="loss",
        mode="min",
        num_samples=trials,
        max_concurrent_trials=1,
    )
    assert len(results) == trials
    best = results.get_best_result()
    assert best.metrics["loss"] < expected_of_random(trials) / 2
    assert best.config["m"]["constant"] == 1


def resumable(config: dict[str, Any]) -> None:
    """Nine iterations that go on from a checkpoint."""
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            start = int(Path(directory, "step").read_text())
    for step in range(start + 1, 10):
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "step").write_text(str(step))
            loss = (config["x"] - 1) ** 2 + 1 / step
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(directory))


def test_bohb_and_its_scheduler(tmp_path: Path) -> None:
    """Milestones teach the model, paused trials make room, and good trials go to the end."""
    pytest.importorskip("ConfigSpace")
    from milepost.tune.schedulers import HyperBandForBOHB
    from milepost.tune.search.bohb import TuneBOHB

    searcher = TuneBOHB(seed=1, max_concurrent=4)
    results = fit(
        tmp_path,
        resumable,
        {"x": tune.uniform(-4, 4)},
        searcher,
        scheduler=HyperBandForBOHB(time_attr="training_iteration", max_t=9, reduction_factor=3),
        metric="loss",
        mode="min",
        num_samples=20,
    )
    lengths = [result.metrics["training_iteration"] for result in results]
    assert set(lengths) == {1, 3, 9}
    best = results.get_best_result()
    assert best.metrics["training_iteration"] == 9
    assert abs(best.config["x"] - 1) < 1
    assert searcher._model.budget in (1, 3, 9)
    assert not searcher._running
    assert not searcher._paused


def two_goals(config: dict[str, Any]) -> None:
    """Cost and quality both grow with x; y only costs."""
    for step in (1, 2):
        tune.report({"cost": config["x"] + config["y"], "quality": config["x"] * step})


def test_several_metrics(tmp_path: Path) -> None:
    """A run with several metrics learns the whole front; the sampler leaves out what only costs."""
    from milepost.tune.search.optuna import OptunaSearch

    def define(trial: Any) -> dict[str, Any]:
        trial.suggest_float("x", 0, 1)
        trial.suggest_float("y", 0, 1)
        return {"constant": 5}

    searcher = OptunaSearch(define, metric=["cost", "quality"], mode=["min", "max"], seed=1)
    results = fit(tmp_path, two_goals, {}, searcher, num_samples=12)
    assert searcher.study is not None
    told = sorted(tuple(trial.values) for trial in searcher.study.trials)
    assert told == sorted((r.metrics["cost"], r.metrics["quality"]) for r in results)
    assert {r.config["constant"] for r in results} == {5}


def sometimes(config: dict[str, Any]) -> None:
    """Some trials fail, some report no number."""
    if config["x"] > 0.7:
        raise ValueError("too large")
    tune.report({"loss": math.nan if config["x"] < 0.2 else config["x"]})


def test_failed_trials_and_nan(tmp_path: Path) -> None:
    """The run goes on; in the study they have failed."""
    from milepost.tune.search.optuna import OptunaSearch

    searcher = OptunaSearch(seed=3)
    results = tune.Tuner(
        sometimes,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            search_alg=searcher, metric="loss", mode="min", num_samples=10, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert searcher.study is not None
    states = {t.params["x"]: t.state.name for t in searcher.study.trials}
    assert len(results) == len(states) == 10
    assert all((state == "COMPLETE") == (0.2 <= x <= 0.7) for x, state in states.items())
    assert set(states.values()) == {"COMPLETE", "FAIL"}


def test_the_space_of_the_searcher_and_of_the_run(tmp_path: Path) -> None:
    """Given twice it is an error that says so; without a metric the error says where it belongs."""
    from milepost.tune.search.optuna import OptunaSearch

    own = OptunaSearch(
        lambda trial: {"x": trial.suggest_float("x", 0, 1)}, metric="loss", mode="min"
    )
    with pytest.raises(ValueError, match="OptunaSearch searches a space of its own"):
        fit(tmp_path, bowl, {"x": tune.uniform(0, 1)}, own)
    unset = OptunaSearch(lambda trial: {"x": trial.suggest_float("x", 0, 1)})
    with pytest.raises(Exception, match="Give them to the searcher when it has a space"):
        fit(tmp_path / "other", bowl, {}, unset, metric="loss", mode="min")
