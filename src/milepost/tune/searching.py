"""Makes the search algorithm and the scheduler of a run ready for it."""

from __future__ import annotations

from typing import Any

from milepost.api.scheduler import TrialScheduler
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.tune.experiment.experiment import Experiment


def search_for(experiment: Experiment) -> SearchAlgorithm:
    """Return what proposes the trials of an experiment, with its metric, mode and space set.

    Raises:
        ValueError: the searcher has a space or metric of its own and is given another one, or it
            is limited to another number of concurrent trials.
    """
    from milepost.tune.search import create_searcher
    from milepost.tune.search.basic_variant import BasicVariantGenerator
    from milepost.tune.search.search_generator import SearchGenerator

    config = experiment.tune_config
    chosen: Any = config.search_alg
    if isinstance(chosen, str):
        chosen = create_searcher(chosen)
    if chosen is None:
        chosen = BasicVariantGenerator(max_concurrent=config.max_concurrent_trials or 0)
    elif not isinstance(chosen, SearchAlgorithm):
        chosen = SearchGenerator(_limited(chosen, config.max_concurrent_trials))
    if experiment.space and not chosen.set_search_properties(
        config.metric, config.mode, experiment.space, **experiment.public_spec
    ):
        _refuse_unused_space(config.search_alg, experiment.space)
    chosen.add_configurations([experiment])
    search: SearchAlgorithm = chosen
    return search


def scheduler_for(experiment: Experiment) -> TrialScheduler:
    """Return the scheduler of an experiment, with its metric and mode set.

    Raises:
        ValueError: it has a metric or mode of its own and the run gives another one.
    """
    from milepost.tune.schedulers import FIFOScheduler, create_scheduler

    config = experiment.tune_config
    chosen: Any = config.scheduler
    if isinstance(chosen, str):
        chosen = create_scheduler(chosen)
    scheduler: TrialScheduler = FIFOScheduler() if chosen is None else chosen
    spec = {**experiment.public_spec, "reuse_actors": config.reuse_actors}
    if not scheduler.set_search_properties(config.metric, config.mode, **spec):
        raise ValueError(
            f"The scheduler {type(scheduler).__name__} has a metric or mode of its own, and "
            f"TuneConfig(metric={config.metric!r}, mode={config.mode!r}) gives another one. "
            "Set them in one place."
        )
    return scheduler


def _limited(searcher: Any, limit: int | None) -> Any:
    from milepost.tune.search import ConcurrencyLimiter

    if not limit:
        return searcher
    if not isinstance(searcher, ConcurrencyLimiter):
        return ConcurrencyLimiter(searcher, max_concurrent=limit)
    if searcher.max_concurrent != limit:
        raise ValueError(
            f"TuneConfig(max_concurrent_trials={limit}) contradicts the ConcurrencyLimiter, which "
            f"was made with max_concurrent={searcher.max_concurrent}. Leave one of them out."
        )
    return searcher


def _refuse_unused_space(search: Any, space: dict[str, Any]) -> None:
    """Raise when search variables would reach trials as they are."""
    from milepost.tune.search.variant_generator import has_unresolved_values

    if has_unresolved_values(space):
        raise ValueError(
            f"{type(search).__name__} searches a space of its own, so the search variables in "
            "param_space would never be resolved. Give the space in one place: leave it out of "
            "the searcher, or leave param_space out."
        )
