"""Makes the search algorithm and the scheduler of a run ready for it."""

from __future__ import annotations

from typing import Any

from milepost.api.scheduler import TrialScheduler
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.tune.compatible import doubled, require_used_space, scheduler_of, search_of
from milepost.tune.experiment.experiment import Experiment


def search_for(experiment: Experiment) -> SearchAlgorithm:
    """Return what proposes the trials of an experiment, with its metric, mode and space set.

    Raises:
        ValueError: the searcher has a space or metric of its own and is given another one.
    """
    from milepost.tune.search.search_generator import SearchGenerator

    config = experiment.tune_config
    chosen = search_of(config)
    if isinstance(chosen, SearchAlgorithm):
        search = chosen
    else:
        search = SearchGenerator(_limited(chosen, config.max_concurrent_trials))
    if experiment.space and not search.set_search_properties(
        config.metric, config.mode, experiment.space, **experiment.public_spec
    ):
        require_used_space(chosen, experiment.space)
    search.add_configurations([experiment])
    return search


def scheduler_for(experiment: Experiment) -> TrialScheduler:
    """Return the scheduler of an experiment, with its metric and mode set.

    Raises:
        ValueError: it has a metric or mode of its own and the run gives another one.
    """
    config = experiment.tune_config
    scheduler = scheduler_of(config)
    spec = {**experiment.public_spec, "reuse_actors": config.reuse_actors}
    if not scheduler.set_search_properties(config.metric, config.mode, **spec):
        raise doubled(scheduler, config.metric, config.mode)
    return scheduler


def _limited(searcher: Any, limit: int | None) -> Any:
    from milepost.tune.search import ConcurrencyLimiter

    if not limit or isinstance(searcher, ConcurrencyLimiter):
        return searcher
    return ConcurrencyLimiter(searcher, max_concurrent=limit)
