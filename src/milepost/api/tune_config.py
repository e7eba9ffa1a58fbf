"""How configurations are searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.available import require_scheduler_name, require_searcher_name
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.scheduler import TrialScheduler

if TYPE_CHECKING:
    from milepost.api.search_algorithm import SearchAlgorithm
    from milepost.api.searcher import Searcher


def _searcher(owner: str, name: str, value: Any) -> Any:
    if isinstance(value, str):
        require_searcher_name(value)
        return value
    if not isinstance(value, type) and (hasattr(value, "suggest") or hasattr(value, "next_trial")):
        return value
    hint = f": write {value.__name__}(...)" if isinstance(value, type) else ""
    raise TypeError(
        f"{owner}.{name} must be a Searcher, a SearchAlgorithm or the name of one, "
        f"got {value!r}{hint}."
    )


def _scheduler(owner: str, name: str, value: Any) -> Any:
    if isinstance(value, str):
        require_scheduler_name(value)
        return value
    return checks.instance_of(TrialScheduler)(owner, name, value)


@checked
@dataclass
class TuneConfig(Config):
    """How configurations are searched, and how many trials run. Mirrors Ray's class.

    Args:
        mode: ``"min"`` or ``"max"``: which values of ``metric`` are better.
        metric: the metric to optimise; ``a/b`` names a nested one.
        search_alg: what proposes configurations; the default samples ``param_space`` at random
            and expands grids.
        scheduler: what pauses and stops trials early; the default, FIFO, never does.
        num_samples: how often the space is sampled; a grid is repeated as often. -1 goes on until
            something else ends the run. Default 1.
        max_concurrent_trials: how many trials run at once; None or 0 as many as fit.
        time_budget_s: seconds (or a ``timedelta``) after which the run ends: trials stop at their
            next report, and are killed if there is none within ten seconds.
        reuse_actors: let a trial take over the worker process of an ended one, through
            ``Trainable.reset_config``; default False.
        trial_name_creator: ``trial -> str``, the trial's name.
        trial_dirname_creator: ``trial -> str``, the trial's directory.
        chdir_to_trial_dir: raises; set the environment variable ``RAY_CHDIR_TO_TRIAL_DIR=0``.

    Raises:
        TypeError: a field is misspelt or has the wrong type.
        ValueError: a value is out of range, or this version has no scheduler or search algorithm of
            that name.
        DeprecationWarning: ``chdir_to_trial_dir`` is set.
    """

    mode: str | None = None
    metric: str | None = None
    search_alg: Searcher | SearchAlgorithm | str | None = None
    scheduler: TrialScheduler | str | None = None
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: float | timedelta | None = None
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None
    chdir_to_trial_dir: bool | str = checks.DEPRECATED

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "mode": checks.optional(checks.one_of("min", "max")),
        "metric": checks.optional(checks.text),
        "search_alg": checks.optional(_searcher),
        "scheduler": checks.optional(_scheduler),
        "num_samples": checks.integer(at_least=1, but=-1, meaning=" -1 means without limit."),
        "max_concurrent_trials": checks.optional(
            checks.integer(at_least=0, meaning=" None or 0 means as many as fit.")
        ),
        "time_budget_s": checks.optional(checks.seconds),
        "reuse_actors": checks.boolean,
        "trial_name_creator": checks.optional(checks.function),
        "trial_dirname_creator": checks.optional(checks.function),
        "chdir_to_trial_dir": checks.refused(
            "Set the environment variable RAY_CHDIR_TO_TRIAL_DIR=0 to stay in the driver's "
            "working directory.",
            checks.DEPRECATED,
        ),
    }
