"""Carries out a training run: one trial, whose directory is the run's own."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from milepost.api.callback import Callback
from milepost.api.config import given_fields
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.api.training.callback import TrainRunContext, UserCallback
from milepost.api.training.failure_config import FailureConfig
from milepost.api.tune_config import TuneConfig
from milepost.errors import (
    ControllerError,
    ExperimentNotFoundError,
    MilepostError,
    PreemptionError,
)
from milepost.storage.names import ITSELF
from milepost.train.borrowing import room_for
from milepost.train.result import Result
from milepost.train.watcher import Watcher
from milepost.tune import place
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.launch import carry_out
from milepost.tune.plan import callbacks_of_environment
from milepost.tune.recorded import Recorded
from milepost.tune.resolve import Target
from milepost.tune.results.assemble import result_of
from milepost.tune.setup import fields, recorded_as

if TYPE_CHECKING:
    from milepost.api.run_config import RunConfig
    from milepost.api.training.logging_config import LoggingConfig
    from milepost.control.interruption import Interruption
    from milepost.control.outcome import RunOutcome
    from milepost.control.plan import RunPlan
    from milepost.journal.experiment import Experiment as Stored
    from milepost.train.data_parallel_trainer import DataParallelTrainer

log = logging.getLogger("milepost.train")

#: What the record of a run says in place of a trainable's name.
TRAINING = "training"

_EVERYTHING_GOES_ON = ResumeConfig(
    finished=ResumeType.RESUME, unfinished=ResumeType.RESUME, errored=ResumeType.RESUME
)


def fit(trainer: DataParallelTrainer) -> Result:
    """Run a trainer to its end; see :meth:`DataParallelTrainer.fit`."""
    config = trainer.run_config
    callbacks = [
        *callbacks_of_environment("RAY_TRAIN_CALLBACKS", UserCallback),
        *(each for each in config.callbacks or [] if isinstance(each, UserCallback)),
    ]
    watcher = Watcher(
        callbacks,
        TrainRunContext(
            config,
            trainer.train_loop_config,
            trainer.scaling_config,
            trainer.backend_config,
            trainer.dataset_config,
        ),
    )
    try:
        with _logging(config.logging_config), room_for(trainer.scaling_config):
            outcome = carry_out(
                functools.partial(_plan, trainer, watcher),
                storage_path=trainer.storage_path,
                cpus=trainer.scaling_config.num_cpus_per_worker,
                go_on=functools.partial(_how_to_go_on, trainer),
                run=_here if trainer.scaling_config.max_workers == 0 else None,
            )
    except Exception as error:
        raise ControllerError(_origin(error)) from error
    if outcome.interrupted:
        raise KeyboardInterrupt
    (record,) = outcome.trials
    if record.status == "ERROR":
        lost = record.error
        if isinstance(lost, PreemptionError):
            raise lost
        raise watcher.error() or ControllerError(
            lost if isinstance(lost, Exception) else RuntimeError(lost)
        )
    result = result_of(record, kind=Result)
    assert isinstance(result, Result)
    result.return_value = watcher.value
    return result


@contextlib.contextmanager
def _logging(config: LoggingConfig | None) -> Iterator[None]:
    """Log as much of the run as the user wants, if anything was said about that."""
    logger = logging.getLogger("milepost")
    before = logger.level
    if config is not None and "log_level" in given_fields(config):
        logger.setLevel(config.log_level)
    try:
        yield
    finally:
        logger.setLevel(before)


def recorded_run(path: str) -> Recorded:
    """Return the record of the training run in a directory.

    Raises:
        ExperimentNotFoundError: there is none.
        ValueError: what is there is no training run.
        JournalError: a newer version wrote it.
    """
    recorded = Recorded(path)
    if recorded.trainable != TRAINING:
        raise ValueError(
            f"{path} holds a tuning run of {recorded.trainable!r}, not a training run. Go on with "
            "it by Tuner.restore(), or choose another RunConfig(name=...)."
        )
    return recorded


def _plan(trainer: DataParallelTrainer, watcher: Watcher) -> RunPlan:
    from milepost.tune.plan import plan_for

    loop = trainer.as_trainable()
    stored, before = _stored(trainer)
    experiment = Experiment.of(
        Target(loop, TRAINING, "function"),
        {},
        TuneConfig(),
        _of_one_trial(trainer.run_config),
        path=stored.path,
    )
    description = recorded_as(
        {"trainable": TRAINING, "kind": "function"},
        {
            "trainer": type(trainer).__name__,
            "train_loop_per_worker": trainer.train_loop_per_worker,
            "train_loop_config": trainer.train_loop_config,
            "backend_config": trainer.backend_config,
            "scaling_config": fields(trainer.scaling_config),
            "run_config": fields(trainer.run_config),
            # The data is not the record's to keep; whoever goes on with the run has it.
            "datasets": sorted(trainer.datasets),
            "dataset_config": trainer.dataset_config if trainer.datasets else None,
            "validation_config": trainer.validation_config,
        },
    )
    plan = plan_for(experiment, lambda: stored, description, save_at_end=False)
    start = trainer.resume_from_checkpoint
    assert plan.group is not None
    given = trainer.run_config.failure_config
    assert isinstance(given, FailureConfig)
    for name in given.without_effect:
        log.warning(
            "FailureConfig(%s=%r) has no effect; its documentation says what holds instead.",
            name,
            getattr(given, name),
        )
    return dataclasses.replace(
        plan,
        name_of=lambda trial: stored.name,
        dirname_of=lambda trial: ITSELF,
        initial_checkpoint=None if start is None else os.path.abspath(start.path),
        resume=None if before is None else _EVERYTHING_GOES_ON,
        failure=_limits(given, before),
        group=dataclasses.replace(
            plan.group,
            max_preemptions=given.max_preemption_failures,
            preemption_grace_s=given.preemption_grace_s,
        ),
        watch=watcher,
    )


def _here(plan: RunPlan, interruption: Interruption) -> RunOutcome:
    from milepost.train.local_mode import run_here

    # What a debugger shows refers to the directory that the script was started in.
    return run_here(dataclasses.replace(plan, chdir=False), interruption)


def _stored(trainer: DataParallelTrainer) -> tuple[Stored, Recorded | None]:
    """The run's directory, and the record of the run that was in it before, if there was one."""
    path = os.path.join(trainer.storage_path, trainer.name)
    if trainer.is_named:
        try:
            recorded = recorded_run(path)
        except ExperimentNotFoundError:
            pass
        else:
            return recorded.stored, recorded
    stored = place.create_experiment(
        trainer.storage_path, trainer.name, trainable=TRAINING, automatic=not trainer.is_named
    )
    trainer.name, trainer.is_named = os.path.basename(stored.path), True
    return stored, None


def _limits(config: FailureConfig, before: Recorded | None) -> FailureConfig:
    """How often the run may fail in all: as often as in each ``fit()``, and as it has before."""
    if before is None or config.fail_fast or config.max_failures < 0:
        return config
    failed = sum(trial.failures for trial in before.image.trials.values())
    made = copy.copy(config)
    made.max_failures += failed
    return made


def _of_one_trial(config: RunConfig) -> RunConfig:
    """The config of the run's trial: callbacks that are told of workers are not of a trial."""
    made = copy.copy(config)
    made.callbacks = [each for each in config.callbacks or [] if isinstance(each, Callback)]
    return made


def _how_to_go_on(trainer: DataParallelTrainer, path: str) -> str:
    return f"{type(trainer).__name__}.restore({path!r}).fit()"


def _origin(error: Exception) -> Exception:
    """The error of a callback, stopper or scheduler, which a run's error holds."""
    cause = error.__cause__
    return cause if isinstance(error, MilepostError) and isinstance(cause, Exception) else error
