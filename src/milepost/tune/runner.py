"""``tune.run`` and ``run_experiments``, the entry points of older scripts."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.progress import ProgressReporter
from milepost.api.resume_config import ResumeConfig
from milepost.api.run_config import RunConfig
from milepost.api.scheduler import TrialScheduler
from milepost.api.spelling import spelled
from milepost.api.stopper import Stopper
from milepost.api.sync_config import SyncConfig
from milepost.api.tune_config import TuneConfig
from milepost.errors import ExperimentExistsError, TuneError
from milepost.tune import deprecated
from milepost.tune.analysis import ExperimentAnalysis
from milepost.tune.experiment.experiment import Experiment

if TYPE_CHECKING:
    from milepost.control.facade import Trial

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
        restore: raises; this version cannot start trials from a given checkpoint.
        resume: this version cannot go on with an earlier run: raises when there is one of this
            name, and starts afresh when there is none.
        resume_config: as ``resume``.
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
        restore=restore,
    )
    checkpoint_config = deprecated.checkpoint_config(
        checkpoint_config,
        keep_checkpoints_num=keep_checkpoints_num,
        checkpoint_score_attr=checkpoint_score_attr,
        checkpoint_freq=checkpoint_freq,
        checkpoint_at_end=checkpoint_at_end,
    )
    tune_config = TuneConfig(
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
    run_config = RunConfig(
        name=name,
        storage_path=None if storage_path is None else os.fspath(storage_path),
        storage_filesystem=storage_filesystem,
        failure_config=FailureConfig(max_failures=max_failures, fail_fast=fail_fast),
        checkpoint_config=checkpoint_config,
        sync_config=sync_config,
        verbose=_VERBOSE if verbose is None else verbose,
        stop=stop,
        callbacks=None if callbacks is None else list(callbacks),
        progress_reporter=progress_reporter,
        log_to_file=log_to_file,
    )
    with _no_resume(resume, resume_config):
        if isinstance(run_or_experiment, Experiment):
            experiment = _with_run_options(run_or_experiment, tune_config, run_config)
        else:
            experiment = Experiment.of(
                run_or_experiment, config, tune_config, run_config, resources_per_trial
            )
    return _carry_out(experiment, raise_on_failed_trial)


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
    with _no_resume(resume, resume_config):
        described = _experiments(experiments)
    tune_config = TuneConfig(scheduler=scheduler, reuse_actors=reuse_actors)
    run_config = RunConfig(
        verbose=_VERBOSE if verbose is None else verbose,
        progress_reporter=progress_reporter,
        callbacks=None if callbacks is None else list(callbacks),
    )
    trials: list[Trial] = []
    for experiment in described:
        complete = _with_run_options(experiment, tune_config, run_config)
        analysis = _carry_out(complete, raise_on_failed_trial and not concurrent)
        trials += analysis.trials
    if raise_on_failed_trial and concurrent:
        _require_success(trials)
    return trials


def _carry_out(experiment: Experiment, raise_on_failed_trial: bool) -> ExperimentAnalysis:
    from milepost.tune.launch import launch

    finished = launch(experiment, save_at_end=False)
    if raise_on_failed_trial and not finished.interrupted:
        _require_success(finished.analysis.trials)
    return finished.analysis


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


def _with_run_options(
    experiment: Experiment, tune_config: TuneConfig, run_config: RunConfig
) -> Experiment:
    """Add the options that belong to a run to an experiment, whose own options stay."""
    own, described = experiment.tune_config, experiment.run_config
    failure = experiment.failure_config
    asked = run_config.failure_config or FailureConfig()
    if asked.fail_fast:
        failure = asked
    return experiment.with_configs(
        dataclasses.replace(
            tune_config,
            num_samples=own.num_samples,
            time_budget_s=own.time_budget_s or tune_config.time_budget_s,
            trial_name_creator=own.trial_name_creator or tune_config.trial_name_creator,
            trial_dirname_creator=own.trial_dirname_creator or tune_config.trial_dirname_creator,
        ),
        dataclasses.replace(
            described,
            failure_config=failure,
            verbose=run_config.verbose,
            callbacks=run_config.callbacks,
            progress_reporter=run_config.progress_reporter,
        ),
    )


class _no_resume:  # noqa: N801 - used like contextlib's functions
    """Turns "the name is taken" into what it means to somebody who asked to resume."""

    def __init__(self, resume: Any, resume_config: Any) -> None:
        self._wanted = deprecated.wants_resume(resume, resume_config)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not self._wanted:
            return
        if isinstance(error, ExperimentExistsError):
            raise TuneError(
                "resume was asked for, and this version cannot go on with an earlier run yet. Its "
                f"results are intact; start another one under another name. ({error})"
            ) from error
        if error is None:
            log.info("nothing to resume under this name; the run starts afresh")
