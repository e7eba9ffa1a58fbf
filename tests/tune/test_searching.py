from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune.schedulers import FIFOScheduler
from milepost.tune.search import ConcurrencyLimiter, Searcher
from milepost.tune.search.basic_variant import BasicVariantGenerator
from milepost.tune.searching import scheduler_for, search_for


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


class Fixed(Searcher):
    """Searches a space of its own."""

    def __init__(self) -> None:
        super().__init__(metric="own", mode="min")

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"lr": 1}

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Learn nothing."""


class Open(Fixed):
    """Takes the run's space."""

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        self.given = (metric, mode, config, spec)
        return True


def describe(tmp_path: Path, space: Any = None, **options: Any) -> tune.Experiment:
    return tune.Experiment.of(
        train, space, tune.TuneConfig(**options), tune.RunConfig(storage_path=str(tmp_path))
    )


def test_the_default_searches_at_random(tmp_path: Path) -> None:
    """Without a searcher the space is sampled, as often as asked."""
    search = search_for(describe(tmp_path, {"a": tune.grid_search([1, 2])}, num_samples=3))
    assert isinstance(search, BasicVariantGenerator)
    assert search.total_samples == 6
    trial = search.next_trial()
    assert trial is not None
    assert trial.config == {"a": 1}


def test_a_searcher_by_name(tmp_path: Path) -> None:
    """The name of a searcher makes it; a misspelt one is named with its close match."""
    search = search_for(describe(tmp_path, search_alg="random"))
    assert isinstance(search, BasicVariantGenerator)
    with pytest.raises(ValueError, match="randon"):
        search_for(describe(tmp_path, search_alg="randon"))
    with pytest.raises(ValueError, match="fifoo"):
        scheduler_for(describe(tmp_path, scheduler="fifoo"))


def test_a_searcher_is_told_about_the_run(tmp_path: Path) -> None:
    """Metric, mode, space and what is public of the spec reach the searcher once."""
    searcher = Open()
    search_for(
        describe(tmp_path, {"lr": 1}, search_alg=searcher, metric="m", mode="max", num_samples=2)
    )
    metric, mode, config, spec = searcher.given
    assert (metric, mode, config) == ("m", "max", {"lr": 1})
    assert spec["num_samples"] == 2


def test_a_space_that_would_not_be_searched(tmp_path: Path) -> None:
    """Search variables beside a searcher with its own space are an error; constants are not."""
    with pytest.raises(ValueError, match="Fixed searches a space of its own"):
        search_for(describe(tmp_path, {"lr": tune.uniform(0, 1)}, search_alg=Fixed()))
    assert search_for(describe(tmp_path, {"data": "x"}, search_alg=Fixed())).next_trial()


def test_limits_of_concurrency(tmp_path: Path) -> None:
    """A limit wraps a searcher; another limit than the limiter's own is a contradiction."""
    search = search_for(
        describe(tmp_path, search_alg=Open(), max_concurrent_trials=1, num_samples=3)
    )
    assert search.next_trial() is not None
    assert search.next_trial() is None
    limiter = ConcurrencyLimiter(Open(), max_concurrent=2)
    search_for(describe(tmp_path, search_alg=limiter, max_concurrent_trials=2))
    with pytest.raises(ValueError, match=r"max_concurrent_trials=3\).*max_concurrent=2"):
        search_for(describe(tmp_path, search_alg=limiter, max_concurrent_trials=3))


def test_metric_and_mode_in_two_places(tmp_path: Path) -> None:
    """A scheduler with a metric of its own and a run with another one is a ValueError."""

    class Scored(FIFOScheduler):
        _metric = "own"

    with pytest.raises(ValueError, match="Scored has a metric or mode of its own"):
        scheduler_for(describe(tmp_path, scheduler=Scored(), metric="other", mode="min"))
    assert isinstance(scheduler_for(describe(tmp_path, scheduler=Scored())), Scored)
