"""Whether the trainable, searcher and scheduler of a run go together, before any of it exists.

Objects of users are looked at here, and not told of the run: it may begin later, twice or never.
Those that have something to say define ``check_run(setting)``, which raises, or
``doubts(setting)``, which returns lines for the log. Neither changes anything.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from milepost.api.scheduler import TrialScheduler
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.api.searcher import Searcher

if TYPE_CHECKING:
    from milepost.api.tune_config import TuneConfig
    from milepost.tune.resolve import Target

_AGAIN = "was used by an earlier run: each run needs a new one"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a searcher or scheduler has to go together with.

    Attributes:
        trainable: its name.
        lacks: the methods that its class would need to go on from a checkpoint; of functions
            nothing is known, and this is empty.
        metric: that of ``TuneConfig``.
        mode: likewise.
        space: ``param_space``.
        searcher: the type of the searcher; None if the space is sampled at random.
        most_trials: how many trials there will be at most, as far as known.
        limit: ``max_concurrent_trials``; None for no limit.
        reuse_actors: likewise.
    """

    trainable: str
    lacks: tuple[str, ...]
    metric: str | None
    mode: str | None
    space: dict[str, Any]
    searcher: str | None
    most_trials: int
    limit: int | None
    reuse_actors: bool

    def require_checkpoints(self, scheduler: str, use: str) -> None:
        """Make sure that trials can go on from checkpoints.

        Args:
            scheduler: its name.
            use: what it needs them for: ``"pauses trials"``.

        Raises:
            ValueError: the class cannot save or load.
        """
        if self.lacks:
            raise ValueError(
                f"{scheduler} {use}, for which the class {self.trainable} must define "
                f"{' and '.join(f'{name}()' for name in self.lacks)}. Or use a scheduler that "
                "needs no checkpoints, such as ASHAScheduler."
            )


def require_compatible(target: Target, space: dict[str, Any], config: TuneConfig) -> None:
    """Make sure that a run can begin.

    Args:
        target: the trainable.
        space: ``param_space``.
        config: has the searcher, the scheduler, metric and mode.

    Raises:
        ValueError: a scheduler or searcher lacks a metric, has two of them, or does not go with
            the trainable, the space or each other.
        KeyError: a point to evaluate names something that is not in the space.
        TypeError: the search algorithm is none.
        TuneError, ImportError: one that is given by its name cannot be made.
    """
    search, scheduler = search_of(config), scheduler_of(config)
    setting = _setting(target, space, config, search)
    _check_search(search, setting)
    check_scheduler(scheduler, setting)


def search_of(config: TuneConfig) -> Searcher | SearchAlgorithm:
    """Return what proposes configurations, as it was given; one given by its name is made.

    Raises:
        TypeError: it is no searcher; also an ``AssertionError``.
        ImportError: its library is not installed.
    """
    chosen: Any = config.search_alg
    if chosen is None:
        from milepost.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(max_concurrent=config.max_concurrent_trials or 0)
    if isinstance(chosen, str):
        from milepost.tune.search import create_searcher

        chosen = create_searcher(chosen)
    if not isinstance(chosen, Searcher | SearchAlgorithm):
        from milepost.tune.search.search_generator import SearchGenerator

        SearchGenerator(chosen)  # raises
    found: Searcher | SearchAlgorithm = chosen
    return found


def scheduler_of(config: TuneConfig) -> TrialScheduler:
    """Return the scheduler, as it was given; one that is given by its name is made.

    Raises:
        TuneError, ValueError, TypeError: it cannot be made without arguments.
    """
    chosen = config.scheduler
    if chosen is None:
        from milepost.tune.schedulers import FIFOScheduler

        return FIFOScheduler()
    if isinstance(chosen, str):
        from milepost.tune.schedulers import create_scheduler

        return create_scheduler(chosen)
    return chosen


def check_scheduler(scheduler: TrialScheduler, setting: Setting) -> None:
    """Make sure that a scheduler goes with a run.

    Raises:
        ValueError: it does not.
    """
    check = getattr(scheduler, "check_run", None)
    if check is not None:
        check(setting)
    elif says_nothing_else(scheduler) and scheduler.metric and setting.metric:
        raise doubled(scheduler, setting.metric, setting.mode)


def doubts(target: Target, space: dict[str, Any], config: TuneConfig) -> list[str]:
    """Return what a run can begin with, but is hardly meant; arguments as before."""
    setting = _setting(target, space, config, search_of(config))
    return scheduler_doubts(scheduler_of(config), setting)


def scheduler_doubts(scheduler: TrialScheduler, setting: Setting) -> list[str]:
    """Return what a scheduler has to say about a run, by its ``doubts(setting)``."""
    asked = getattr(scheduler, "doubts", None)
    return [] if asked is None else list(asked(setting))


def says_nothing_else(chosen: Any, *hooks: str) -> bool:
    """Whether a searcher or scheduler takes over metric and mode as those of this package do.

    A class of a user may do what it likes in ``set_search_properties()``: only a run can tell.

    Args:
        chosen: the searcher or scheduler.
        *hooks: other methods in which it might.
    """
    methods = (getattr(type(chosen), name) for name in ("set_search_properties", *hooks))
    return all(method.__module__.split(".")[0] == "milepost" for method in methods)


def doubled(scheduler: TrialScheduler, metric: str | None, mode: str | None) -> ValueError:
    """Return the error for a metric or mode that is given twice."""
    return ValueError(
        f"The scheduler {type(scheduler).__name__} has a metric or mode of its own, and "
        f"TuneConfig(metric={metric!r}, mode={mode!r}) gives another one. Set them in one place. "
        f"Or it {_AGAIN}."
    )


def require_used_space(search: Any, space: dict[str, Any]) -> None:
    """Refuse search variables beside a searcher with a space of its own.

    Args:
        search: does not take the space.
        space: would reach trials as it is.

    Raises:
        ValueError: it has search variables.
    """
    from milepost.tune.search.space import has_unresolved_values

    if has_unresolved_values(space):
        raise ValueError(
            f"{type(search).__name__} searches a space of its own, so the search variables in "
            "param_space would never be resolved. Give the space in one place: leave it out of "
            f"the searcher, or leave param_space out. Or it {_AGAIN}."
        )


def _setting(
    target: Target, space: dict[str, Any], config: TuneConfig, search: Searcher | SearchAlgorithm
) -> Setting:
    from milepost.tune.search.variants import count

    searcher = search if isinstance(search, Searcher) else getattr(search, "searcher", None)
    samples = sys.maxsize if config.num_samples == -1 else config.num_samples
    return Setting(
        trainable=target.name,
        lacks=_lacking(target),
        metric=config.metric,
        mode=config.mode,
        space=space,
        searcher=None if searcher is None else type(searcher).__name__,
        most_trials=samples if searcher is not None else samples * count(space),
        limit=config.max_concurrent_trials or None,
        reuse_actors=bool(config.reuse_actors),
    )


def _lacking(target: Target) -> tuple[str, ...]:
    if target.kind == "function":
        return ()
    from milepost.worker.trainable import Trainable

    needed = ("save_checkpoint", "load_checkpoint")
    return tuple(
        name for name in needed if getattr(target.trainable, name) is getattr(Trainable, name)
    )


def _check_search(search: Searcher | SearchAlgorithm, setting: Setting) -> None:
    searcher = search if isinstance(search, Searcher) else getattr(search, "searcher", search)
    check_searcher(searcher, setting)


def check_searcher(searcher: Any, setting: Setting) -> None:
    """Make sure that a searcher goes with a run.

    Raises:
        ValueError, KeyError: it does not.
    """
    check = getattr(searcher, "check_run", None)
    if check is not None:
        check(setting)
    elif getattr(type(searcher), "set_search_properties", None) is Searcher.set_search_properties:
        require_used_space(searcher, setting.space)
