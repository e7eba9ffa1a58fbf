"""Searchers as Ray's documentation has users write them run unchanged but for the import."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 - as such scripts are written

import pytest

from milepost import tune
from milepost.tune.search import ConcurrencyLimiter, Repeater, Searcher


class ExampleSearch(Searcher):
    """The example of the interface's documentation, with a state."""

    def __init__(self, metric="mean_loss", mode="min", **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(metric=metric, mode=mode, **kwargs)
        self.optimizer = random.Random(3)
        self.configurations: Dict[str, Any] = {}  # noqa: UP006
        self.completed: List[tuple[str, Any]] = []  # noqa: UP006
        self.seen: List[str] = []  # noqa: UP006

    def suggest(self, trial_id: str) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045
        configuration = {"x": self.optimizer.uniform(-2, 2)}
        self.configurations[trial_id] = configuration
        return dict(configuration)

    def on_trial_result(self, trial_id, result):  # type: ignore[no-untyped-def]
        self.seen.append(trial_id)

    def on_trial_complete(self, trial_id, result=None, **kwargs):  # type: ignore[no-untyped-def]
        configuration = self.configurations[trial_id]
        if result and self.metric in result:
            self.completed.append((configuration["x"], result[self.metric]))

    def save(self, checkpoint_path: str):  # type: ignore[no-untyped-def]
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.__dict__, file)

    def restore(self, checkpoint_path: str):  # type: ignore[no-untyped-def]
        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(pickle.load(file))


class SpaceSearch(ExampleSearch):
    """One that takes the run's space and metric, with the old signature."""

    def set_search_properties(self, metric, mode, config):  # type: ignore[no-untyped-def]
        if metric:
            self._metric = metric
        if mode:
            self._mode = mode
        self.space = config
        return True

    def suggest(self, trial_id):  # type: ignore[no-untyped-def]
        if len(self.configurations) >= 3:
            return Searcher.FINISHED
        self.configurations[trial_id] = {"x": self.space["x"].sample()}
        return dict(self.configurations[trial_id])


def objective(config: dict[str, Any]) -> None:
    for step in range(2):
        tune.report({"mean_loss": config["x"] ** 2 + step, "nested": {"y": 1}})


def fit(tmp_path: Path, search_alg: Any, space: Any = None, **options: Any) -> Any:
    results = tune.Tuner(
        objective,
        param_space=space or {},
        tune_config=tune.TuneConfig(search_alg=search_alg, num_samples=6, **options),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert not results.errors
    return results


def test_a_searcher_of_the_documentation(tmp_path: Path) -> None:
    """It is asked once per trial, and told of every result and end; the last result is an end."""
    searcher = ExampleSearch()
    results = fit(tmp_path, ConcurrencyLimiter(searcher, max_concurrent=2))
    configs = sorted(result.config["x"] for result in results)
    assert configs == sorted(c["x"] for c in searcher.configurations.values())
    assert sorted(searcher.completed) == sorted((x, x**2 + 1) for x in configs)
    assert len(searcher.seen) == 12


def test_a_searcher_with_the_old_signature(tmp_path: Path) -> None:
    """It takes the space, and ends the search by itself."""
    searcher = SpaceSearch(metric=None, mode=None)
    results = fit(tmp_path, searcher, {"x": tune.uniform(5, 6)}, metric="nested/y", mode="max")
    assert len(results) == 3
    assert all(5 <= result.config["x"] < 6 for result in results)
    assert [value for _, value in searcher.completed] == [1, 1, 1]


def test_repeated_suggestions(tmp_path: Path) -> None:
    """Each suggestion runs as often as asked, with its number, and counts as one."""
    searcher = ExampleSearch()
    results = fit(tmp_path, Repeater(searcher, repeat=3))
    numbers = sorted((round(r.config["x"], 6), r.config["__trial_index__"]) for r in results)
    assert [number for _, number in numbers] == [0, 1, 2] * 2
    assert len(searcher.configurations) == len(searcher.completed) == 2


def test_state_files_of_a_searcher(tmp_path: Path) -> None:
    """save_to_dir and restore_from_dir go through its own save and restore."""
    searcher = ExampleSearch()
    first = searcher.suggest("a")
    searcher.save_to_dir(str(tmp_path), session_str="x")
    assert os.listdir(tmp_path) == [Searcher.CKPT_FILE_TMPL.format("x")]
    fresh = ExampleSearch()
    assert fresh.suggest("a") == first
    fresh.suggest("more")
    fresh.restore_from_dir(str(tmp_path))
    assert fresh.suggest("b") == searcher.suggest("b")
    with pytest.raises(NotImplementedError):
        searcher.get_state()
