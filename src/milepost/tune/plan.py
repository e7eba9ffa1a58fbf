"""Turns the description of an experiment into a plan that the controller can carry out."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from milepost.api.callback import Callback
from milepost.api.resources import PlacementGroupFactory, placement_group_of
from milepost.api.stopper import Stopper
from milepost.errors import TuneError
from milepost.tune import naming
from milepost.tune.compatible import doubts, require_compatible
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.resolve import Target
from milepost.tune.searching import scheduler_for, search_for

if TYPE_CHECKING:
    from milepost.control.plan import RunPlan
    from milepost.journal.experiment import Experiment as Stored
    from milepost.tune.restoring import Restoration
    from milepost.tune.setup import Description

log = logging.getLogger("milepost.tune")

C = TypeVar("C")


def plan_for(
    experiment: Experiment,
    create: Callable[[], Stored],
    description: Description,
    *,
    save_at_end: bool,
    restoration: Restoration | None = None,
) -> RunPlan:
    """Return the plan of a run.

    Args:
        experiment: what to run.
        create: creates its directory; called when everything else has been found to fit together,
            so that an error leaves the name free.
        description: the record of how it is set up.
        save_at_end: whether classes save at their end when nothing is said about it.
        restoration: what goes on; None for a new experiment.

    Raises:
        ValueError: options of searcher, scheduler and run contradict each other.
        StorageError: this machine's scratch directory or the storage path cannot be written.
        ExperimentExistsError: the name is taken.
    """
    from milepost.api.session import ensure_initialized
    from milepost.control.plan import RunPlan
    from milepost.display.choice import choose
    from milepost.storage.node import node_root
    from milepost.tune.logger.files import projections, without_file_loggers

    tune, run = experiment.tune_config, experiment.run_config
    require_compatible(experiment.target, experiment.space, tune)  # other runs may have used them
    stopper, criteria = stop_conditions(run.stop)
    callbacks = [*(run.callbacks or []), *callbacks_of_environment()]
    for doubt in doubts(experiment.target, experiment.space, tune):
        log.warning("%s", doubt)
    search, scheduler = search_for(experiment), scheduler_for(experiment)
    node_root()
    display = choose(
        int(run.verbose or 0), reporter=run.progress_reporter, metric=tune.metric, mode=tune.mode
    )
    stored = create() if restoration is None else restoration.recorded.stored
    return RunPlan(
        experiment=stored,
        trainable=experiment.target.trainable,
        trainable_name=experiment.target.name,
        kind=experiment.target.kind,
        search=search,
        scheduler=scheduler,
        resources=resources_for(experiment.target, experiment.resources_per_trial),
        group=experiment.target.group,
        cluster=ensure_initialized(),
        name_of=naming.trial_namer(experiment.target.name, tune.trial_name_creator),
        dirname_of=naming.directory_namer(stored.path, tune.trial_dirname_creator),
        stopper=stopper,
        criteria=criteria,
        callbacks=[*without_file_loggers(callbacks), *display.callbacks],
        projections=projections(callbacks),
        checkpoint=experiment.checkpoint_config(at_end=save_at_end),
        failure=experiment.failure_config,
        metric=tune.metric,
        mode=tune.mode,
        num_samples=tune.num_samples,
        max_concurrent=tune.max_concurrent_trials or None,
        time_budget_s=seconds(tune.time_budget_s),
        reuse_actors=bool(tune.reuse_actors),
        log_to_file=log_files(run.log_to_file),
        verbose=int(run.verbose or 0),
        progress=display.surface,
        chdir=os.environ.get("RAY_CHDIR_TO_TRIAL_DIR", "1") != "0",
        initial_checkpoint=experiment.initial_checkpoint,
        validation=experiment.target.validation,
        setup=description.stored(stored.path),
        resume=None if restoration is None else restoration.resume,
        anew=frozenset() if restoration is None else restoration.anew,
        lifted=frozenset() if restoration is None else restoration.lifted,
        other_space=restoration is not None and restoration.has_other_space,
        supply=None if restoration is None else restoration.supply,
    )


def stop_conditions(stop: Any) -> tuple[Stopper | None, Mapping[str, Any] | None]:
    """Split ``RunConfig.stop`` into a stopper and a dict of criteria; one of them is None."""
    if stop is None:
        return None, None
    if isinstance(stop, Mapping):
        return None, stop
    if isinstance(stop, Stopper):
        return stop, None
    from milepost.tune.stopper import CombinedStopper, FunctionStopper

    if isinstance(stop, list | tuple):
        return CombinedStopper(*stop), None
    return FunctionStopper(stop), None


def resources_for(
    target: Target, resources_per_trial: Any
) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """Return what tells a trial's resources from its config.

    The trainable's own request (``with_resources``, ``default_resource_request``) comes first,
    then ``resources_per_trial``, then one CPU.

    Raises:
        TuneError: when called: both are given.
    """

    def resources(config: dict[str, Any]) -> PlacementGroupFactory:
        own = _own_request(target, config)
        if own is not None and resources_per_trial:
            raise TuneError(
                f"The trainable {target.name!r} asks for {own!r} by itself, and "
                f"resources_per_trial={resources_per_trial!r} asks for something else. "
                "Leave one of them out."
            )
        return placement_group_of(own if own is not None else resources_per_trial)

    return resources


def _own_request(target: Target, config: dict[str, Any]) -> Any:
    if target.kind == "class":
        return target.trainable.default_resource_request(config)
    request = getattr(target.trainable, "_resources", None)
    if callable(request) and not isinstance(request, PlacementGroupFactory):
        return request(config)
    return request


def callbacks_of_environment(
    variable: str = "RAY_TUNE_CALLBACKS",
    kind: type[C] = Callback,  # type: ignore[assignment]
) -> list[C]:
    """Return the callbacks that an environment variable names, a comma-separated list of paths.

    Args:
        variable: its name.
        kind: what callbacks derive from.

    Raises:
        ValueError: one cannot be imported or is no callback.
    """
    found = []
    for path in filter(None, (p.strip() for p in os.environ.get(variable, "").split(","))):
        module, _, name = path.rpartition(".")
        try:
            callback = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(
                f"{variable} names {path!r}, which cannot be made: {error}. It must be the import "
                f"path of a {kind.__name__} class, such as mypackage.callbacks.MyCallback."
            ) from error
        if not isinstance(callback, kind):
            raise ValueError(f"{variable} names {path!r}, which is no {kind.__name__} class.")
        found.append(callback)
    return found


def seconds(budget: float | timedelta | None) -> float | None:
    """Return a time budget in seconds."""
    return budget.total_seconds() if isinstance(budget, timedelta) else budget


def log_files(log_to_file: bool | str | tuple[str, str]) -> tuple[str | None, str | None]:
    """Return the files for a trial's stdout and stderr; None keeps none."""
    if isinstance(log_to_file, str):
        return log_to_file, log_to_file
    if isinstance(log_to_file, tuple):
        return log_to_file
    return ("stdout", "stderr") if log_to_file else (None, None)
