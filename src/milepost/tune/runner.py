"""``tune.run`` and ``run_experiments``, the entry points of older scripts."""

from __future__ import annotations

import copy
import errno
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from milepost.api import uri
from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.config import Config, given_fields
from milepost.api.failure_config import FailureConfig
from milepost.api.progress import ProgressReporter
from milepost.api.resume_config import ResumeConfig
from milepost.api.run_config import RunConfig
from milepost.api.scheduler import TrialScheduler
from milepost.api.spelling import spelled
from milepost.api.stopper import Stopper
from milepost.api.sync_config import SyncConfig
from milepost.api.tune_config import TuneConfig
from milepost.errors import ExperimentNotFoundError, TuneError
from milepost.tune import deprecated
from milepost.tune.analysis import ExperimentAnalysis
from milepost.tune.arguments import given
from milepost.tune.experiment.experiment import Experiment

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.launch import Finished
    from milepost.tune.restoring import Restoration

C = TypeVar("C", bound=Config)

log = logging.getLogger("milepost.tune")

_VERBOSE = 2


@spelled
def run(
    run_or_experiment: str | Callable[..., Any] | type | Experiment,
    *,
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
    stop: Mapping[str, Any] | Stopper | list[Stopper] | Callable[..., bool] | None = None,
    time_budget_s: float | timedelta | None = None,
    config: Mapping[str, Any] | None = None,
    resources_per_trial: Any = None,
    num_samples: int = 1,
    storage_path: str | os.PathLike[str] | None = None,
    storage_filesystem: Any | None = None,
    search_alg: Any = None,
    scheduler: TrialScheduler | str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: ProgressReporter | None = None,
    log_to_file: bool | str | tuple[str, str] = False,
    trial_name_creator: Callable[[Any], str] | None = None,
    trial_dirname_creator: Callable[[Any], str] | None = None,
    sync_config: SyncConfig | None = None,
    export_formats: Sequence[str] | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    restore: str | None = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Callback] | None = None,
    max_concurrent_trials: int | None = None,
    keep_checkpoints_num: int | None = None,
    checkpoint_score_attr: str | None = None,
    checkpoint_freq: int = 0,
    checkpoint_at_end: bool = False,
    chdir_to_trial_dir: Any = "DEPRECATED",
    local_dir: str | None = None,
) -> ExperimentAnalysis:
    """Run a trainable over a search space. Mirrors ``ray.tune.run``; prefer :class:`Tuner`.

    Args:
        run_or_experiment: a function, a ``Trainable`` class, the name of a registered one, or an
            :class:`Experiment`, whose own options then count.
        name: the experiment's directory below ``storage_path``; default automatic.
        metric: the metric to optimise; ``a/b`` names a nested one.
        mode: ``"min"`` or ``"max"``.
        stop: when trials or the run end; see ``RunConfig.stop``.
        time_budget_s: seconds (or a ``timedelta``) after which the run ends.
        config: the search space.
        resources_per_trial: what each trial needs, such as ``{"cpu": 2}``; default one CPU.
        num_samples: how often the space is sampled; -1 without limit.
        storage_path: where experiments go; default ``~/milepost_results``.
        storage_filesystem: the file system it is on; only the local one is supported.
        search_alg: what proposes configurations, or its name.
        scheduler: what pauses and stops trials, or its name.
        checkpoint_config: see :class:`CheckpointConfig`; ``checkpoint_at_end=None`` means False.
        verbose: 0, 1 or 2 (the default).
        progress_reporter: shows progress instead of the built-in display.
        log_to_file: see ``RunConfig.log_to_file``.
        trial_name_creator: ``trial -> name``.
        trial_dirname_creator: ``trial -> directory name``.
        sync_config: see :class:`SyncConfig`.
        export_formats: raises; this version does not export models.
        max_failures: how often a failed trial is tried again; -1 without limit.
        fail_fast: True ends the run at the first failure, ``"raise"`` raises it.
        restore: directory of a checkpoint that each trial starts from; its counters start at 0.
            To go on with a run, use ``resume``.
        resume: go on with the experiment of this name, if there is one; otherwise start it. True
            or ``"AUTO"`` goes on with unfinished trials, ``"AUTO+ERRORED"`` also with failed ones;
            ``"AUTO+RESTART_ERRORED"`` starts those again. ``"AUTO+ERRORED_ONLY"`` and
            ``"AUTO+RESTART_ERRORED_ONLY"`` do that and end unfinished ones as they are. Arguments
            that differ from their defaults replace what was recorded, as in
            :meth:`Tuner.restore`.
        resume_config: says all that ``resume`` can say, and replaces it.
        reuse_actors: let a trial take over the worker process of an ended one.
        raise_on_failed_trial: raise when a trial has failed.
        callbacks: objects that are told what happens.
        max_concurrent_trials: how many trials run at once; None or 0 as many as fit.
        keep_checkpoints_num: deprecated; use ``checkpoint_config``.
        checkpoint_score_attr: deprecated; use ``checkpoint_config``.
        checkpoint_freq: deprecated; use ``checkpoint_config``.
        checkpoint_at_end: deprecated; use ``checkpoint_config``.
        chdir_to_trial_dir: raises; set ``RAY_CHDIR_TO_TRIAL_DIR=0``.
        local_dir: raises; use ``storage_path``.

    Raises:
        TuneError: a trial failed (unless told otherwise; the second argument lists the trials),
            or as :meth:`Tuner.fit`.
        ValueError, TypeError, StorageError, ExperimentExistsError: as for :class:`Tuner`.
        DeprecationWarning: a removed argument is given.
    """
    deprecated.refuse(
        chdir_to_trial_dir=chdir_to_trial_dir,
        local_dir=local_dir,
        export_formats=export_formats,
    )
    wanted = deprecated.resume_option(resume, resume_config)
    checkpoint_config = deprecated.checkpoint_config(
        checkpoint_config,
        keep_checkpoints_num=keep_checkpoints_num,
        checkpoint_score_attr=checkpoint_score_attr,
        checkpoint_freq=checkpoint_freq,
        checkpoint_at_end=checkpoint_at_end,
    )
    tune_config = TuneConfig(
        **given(
            run,
            metric=metric,
            mode=mode,
            search_alg=search_alg,
            scheduler=scheduler,
            num_samples=num_samples,
            max_concurrent_trials=max_concurrent_trials,
            time_budget_s=time_budget_s,
            reuse_actors=reuse_actors,
            trial_name_creator=trial_name_creator,
            trial_dirname_creator=trial_dirname_creator,
        )
    )
    run_config = RunConfig(
        failure_config=FailureConfig(
            **given(run, max_failures=max_failures, fail_fast=fail_fast),
        ),
        **given(
            run,
            name=name,
            storage_path=None if storage_path is None else os.fspath(storage_path),
            storage_filesystem=storage_filesystem,
            checkpoint_config=checkpoint_config,
            sync_config=sync_config,
            verbose=verbose,
            stop=stop,
            callbacks=None if callbacks is None else list(callbacks),
            progress_reporter=progress_reporter,
            log_to_file=log_to_file,
        ),
    )
    asked: _Asked
    if isinstance(run_or_experiment, Experiment):
        asked = _combined(run_or_experiment, tune_config, run_config)
    else:
        asked = _Asked(run_or_experiment, config, tune_config, run_config, resources_per_trial)
    asked = replace(asked, initial_checkpoint=_checkpoint_directory(restore))
    return _carry_out(asked, wanted, raise_on_failed_trial).analysis


@spelled
def run_experiments(
    experiments: Experiment | Mapping[str, Mapping[str, Any]] | Sequence[Experiment],
    scheduler: TrialScheduler | str | None = None,
    verbose: int | None = None,
    progress_reporter: ProgressReporter | None = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    concurrent: bool = True,
    callbacks: Sequence[Callback] | None = None,
) -> list[Trial]:
    """Run several experiments and return their trials. Mirrors ``ray.tune.run_experiments``.

    Experiments run one after the other, each with all of the machine's resources.

    Args:
        experiments: one, several, or a dict ``name -> {"run": ..., "config": ..., "stop": ...}``.
        scheduler: what pauses and stops trials, or its name.
        verbose: 0, 1 or 2 (the default).
        progress_reporter: shows progress instead of the built-in display.
        resume: as for :func:`run`.
        resume_config: as for :func:`run`.
        reuse_actors: let a trial take over the worker process of an ended one.
        raise_on_failed_trial: raise when a trial has failed.
        concurrent: whether all experiments run before a failure is raised; otherwise the first
            experiment with a failed trial is the last one.
        callbacks: objects that are told what happens.

    Raises:
        TuneError: a trial failed (unless told otherwise), or a spec has an unknown entry.
        ValueError, TypeError, StorageError, ExperimentExistsError: as for :class:`Tuner`.
    """
    wanted = deprecated.resume_option(resume, resume_config)
    tune_config = TuneConfig(
        **given(run_experiments, scheduler=scheduler, reuse_actors=reuse_actors)
    )
    run_config = RunConfig(
        **given(
            run_experiments,
            verbose=verbose,
            progress_reporter=progress_reporter,
            callbacks=None if callbacks is None else list(callbacks),
        )
    )
    trials: list[Trial] = []
    for experiment in _experiments(experiments):
        asked = _combined(experiment, tune_config, run_config)
        finished = _carry_out(asked, wanted, raise_on_failed_trial and not concurrent)
        trials += finished.analysis.trials
        if finished.interrupted:  # whoever ends one experiment early wants no other to begin
            return trials
    if raise_on_failed_trial and concurrent:
        _require_success(trials)
    return trials


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a call asks for; configs have only those fields set that the call has set."""

    trainable: Any
    space: Mapping[str, Any] | None
    tune_config: TuneConfig
    run_config: RunConfig
    resources_per_trial: Any = None
    initial_checkpoint: str | None = None

    @property
    def path(self) -> str | None:
        """The experiment's directory, if it was named."""
        name = self.run_config.name
        return None if name is None else os.path.join(str(self.run_config.storage_path), name)


def _combined(experiment: Experiment, tune_config: TuneConfig, run_config: RunConfig) -> _Asked:
    """Options of a run with those of an experiment, which count where both are given."""
    options = _overlaid(run_config, experiment.run_config)
    if (run_config.failure_config or FailureConfig()).fail_fast:
        options.failure_config = run_config.failure_config
    return _Asked(
        experiment.target,
        experiment.space or None,
        _overlaid(tune_config, experiment.tune_config),
        options,
        experiment.resources_per_trial,
    )


def _overlaid(below: C, above: C) -> C:
    config = copy.copy(below)
    for name in given_fields(above):
        value, other = getattr(above, name), getattr(below, name)
        inner = isinstance(value, Config) and isinstance(other, Config)
        setattr(config, name, _overlaid(other, value) if inner else value)
    return config


def _carry_out(asked: _Asked, resume: ResumeConfig | None, raise_on_failed_trial: bool) -> Finished:
    from milepost.tune.launch import launch

    restoration = None if resume is None else _restoration(asked, resume)
    if restoration is not None:
        finished = launch(
            restoration.experiment, save_at_end=restoration.save_at_end, restoration=restoration
        )
    else:
        run_config = copy.copy(asked.run_config)
        if "verbose" not in given_fields(run_config):
            run_config.verbose = _VERBOSE
        experiment = Experiment.of(
            asked.trainable, asked.space, asked.tune_config, run_config, asked.resources_per_trial
        )
        experiment.initial_checkpoint = asked.initial_checkpoint
        finished = launch(experiment, save_at_end=False)
    if raise_on_failed_trial and not finished.interrupted:
        _require_success(finished.analysis.trials)
    return finished


def _restoration(asked: _Asked, resume: ResumeConfig) -> Restoration | None:
    """What there is to go on with; None, with a line in the log, if nothing is there."""
    from milepost.tune.restoring import Restoration, directory_of

    if asked.path is None:
        log.info("nothing to resume: the experiment has no name; the run starts afresh")
        return None
    try:
        return Restoration(
            directory_of(asked.path, asked.run_config.storage_filesystem),
            asked.trainable,
            resume,
            param_space=asked.space,
            tune_config=asked.tune_config,
            run_config=asked.run_config,
            resources_per_trial=asked.resources_per_trial,
            initial_checkpoint=asked.initial_checkpoint,
        )
    except ExperimentNotFoundError as error:
        log.info("nothing to resume: %s; the run starts afresh", error)
        return None


def _checkpoint_directory(path: str | os.PathLike[str] | None) -> str | None:
    """The directory of a checkpoint that trials start from, absolute.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
    """
    if path is None:
        return None
    directory = uri.resolve(path)
    if not os.path.isdir(directory):
        code = errno.ENOTDIR if os.path.lexists(directory) else errno.ENOENT
        # OSError chooses its subclass by the number.
        raise OSError(code, "tune.run(restore=...) takes the directory of a checkpoint", directory)
    return directory


def _require_success(trials: list[Trial]) -> None:
    failed = [trial for trial in trials if trial.status != "TERMINATED"]
    if failed:
        raise TuneError("Trials did not complete", failed)


def _experiments(experiments: Any) -> list[Experiment]:
    if isinstance(experiments, Experiment):
        return [experiments]
    if isinstance(experiments, Mapping):
        return [Experiment.from_json(name, spec) for name, spec in experiments.items()]
    if isinstance(experiments, list | tuple):
        for entry in experiments:
            if not isinstance(entry, Experiment):
                raise TuneError(f"expected an Experiment in the list, got {entry!r}")
        return list(experiments)
    raise TuneError(
        "experiments must be an Experiment, a list of them, or a dict name -> spec, got "
        f"{experiments!r} ({type(experiments).__name__})"
    )
