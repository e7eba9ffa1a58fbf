"""Carries out an experiment and hands back its results."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from milepost.errors import (
    ExperimentExistsError,
    JournalError,
    LeaseLostError,
    MilepostError,
    StorageError,
)
from milepost.tune.analysis import ExperimentAnalysis
from milepost.tune.descriptors import fill_standard_descriptors
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.naming import UNNAMED
from milepost.tune.place import check_storage, create_experiment, discard_if_empty
from milepost.tune.whereabouts import Whereabouts

if TYPE_CHECKING:
    from milepost.control.interruption import Interruption
    from milepost.control.outcome import RunOutcome
    from milepost.control.plan import RunPlan
    from milepost.engine.protocol import Engine
    from milepost.tune.restoring import Restoration

log = logging.getLogger("milepost.tune")


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended.

    Attributes:
        analysis: its results.
        interrupted: the user ended it early.
    """

    analysis: ExperimentAnalysis
    interrupted: bool


def launch(
    experiment: Experiment,
    *,
    save_at_end: bool,
    restoration: Restoration | None = None,
) -> Finished:
    """Run an experiment to its end.

    Args:
        experiment: what to run; checked already.
        save_at_end: whether classes save at their end when ``checkpoint_at_end`` is not set.
        restoration: what goes on; None for a new experiment.

    Raises:
        TuneError: a searcher, scheduler, stopper or callback failed; finished work is intact.
        ExperimentExistsError: the name has been taken since the experiment was described.
        LeaseLostError: another driver is running the experiment.
        StorageError: results cannot be written.
        JournalError: the journal cannot be written, or the experiment's directory was moved or
            deleted while the run was going on in it.
        Exception: with ``fail_fast="raise"``, the error of the first trial that failed.
        ValueError: ``MILEPOST_GRACE_S`` is no number of seconds.
        KeyboardInterrupt: after a second Ctrl-C.
        SystemExit: with status 143, after SIGTERM.
    """
    outcome = carry_out(
        functools.partial(_plan, experiment, save_at_end, restoration),
        storage_path=experiment.storage_path if restoration is None else experiment.path,
        cpus=_usual_cpus(experiment),
        go_on=functools.partial(_how_to_go_on, experiment),
    )
    analysis = ExperimentAnalysis(
        outcome.experiment_path,
        trials=outcome.trials,
        default_metric=experiment.tune_config.metric,
        default_mode=experiment.tune_config.mode,
    )
    return Finished(analysis, outcome.interrupted)


def carry_out(
    make_plan: Callable[[], RunPlan],
    *,
    storage_path: str,
    cpus: float,
    go_on: Callable[[str], str],
    run: Callable[[RunPlan, Interruption], RunOutcome] | None = None,
) -> RunOutcome:
    """Run an experiment on this machine.

    Args:
        make_plan: describes it, and creates its directory unless it goes on; called when
            everything listens to signals.
        storage_path: must be writable.
        cpus: of a worker, probably: the first one is prepared for them.
        go_on: path of the experiment -> the statement that goes on with it.
        run: carries out a plan; the default is to run its trials in processes of their own.

    Raises:
        Exception: as :func:`launch`.
    """
    from milepost.control.interruption import Interruption
    from milepost.engine.local import LocalEngine

    fill_standard_descriptors()
    check_storage(storage_path)
    with Interruption() as interruption:  # from here on every signal ends in order
        with contextlib.ExitStack() as stack:
            if run is None:
                engine = stack.enter_context(contextlib.closing(LocalEngine()))
                # Its process starts while this one imports the controller, which takes as long.
                engine.prepare(cpus)
                run = functools.partial(_run_in_processes, engine=engine)
            plan = make_plan()
            try:
                outcome = _run(plan, functools.partial(run, plan, interruption), go_on)
            except KeyboardInterrupt:
                if os.path.isdir(plan.experiment.home):  # else nothing had begun
                    _say_how_to_go_on(go_on(plan.experiment.path))
                raise
        if outcome.interrupted:
            _say_how_to_go_on(go_on(outcome.experiment_path))
    return outcome


def _plan(experiment: Experiment, save_at_end: bool, restoration: Restoration | None) -> RunPlan:
    from milepost.tune.plan import plan_for
    from milepost.tune.setup import describe

    # Before the objects of users are told of metric and space: a restore does that again.
    description = describe(
        experiment,
        save_at_end=save_at_end,
        codes_before=() if restoration is None else restoration.recorded.codes,
    )
    create = functools.partial(
        create_experiment,
        experiment.storage_path,
        experiment.name,
        trainable=experiment.target.name,
        automatic=not experiment.is_named,
    )
    plan = plan_for(
        experiment, create, description, save_at_end=save_at_end, restoration=restoration
    )
    for line in [] if restoration is None or restoration.is_in_use else restoration.lines():
        if plan.verbose and plan.progress is not None:
            plan.progress.line(line, "stdout")
        else:
            log.info("%s", line)
    return plan


def _run_in_processes(plan: RunPlan, interruption: Interruption, engine: Engine) -> RunOutcome:
    from milepost.control.controller import run  # takes time, in which signals may come

    return run(plan, engine=engine, interruption=interruption)


def _run(plan: RunPlan, run: Callable[[], RunOutcome], go_on: Callable[[str], str]) -> RunOutcome:
    with Whereabouts(plan.experiment, go_on) as whereabouts:
        try:
            return run()
        except (LeaseLostError, ExperimentExistsError):  # nothing of it is ours
            raise
        except BaseException as error:
            loss = whereabouts.loss()
            if loss is None:
                discarded = plan.resume is None and discard_if_empty(plan.experiment)
                if isinstance(error, JournalError | StorageError) and not discarded:
                    _say_how_to_open(error, plan.experiment.path)
            elif isinstance(error, Exception):
                log.debug("The run has ended with this error:", exc_info=True)
                # What a part of us says of a missing file would only hide the reason.
                raise loss from None if isinstance(error, MilepostError | OSError) else error
            raise


def _how_to_go_on(experiment: Experiment, path: str) -> str:
    name = experiment.target.name
    trainable = name if name.isidentifier() and name not in (UNNAMED, "lambda") else "trainable"
    return f"tune.Tuner.restore({path!r}, {trainable}).fit()"


def _say_how_to_go_on(statement: str) -> None:
    log.warning(
        "The run was interrupted. Every result on record and every captured checkpoint is kept. To "
        "go on with it:\n    %s",
        statement,
    )


def _say_how_to_open(error: JournalError | StorageError, path: str) -> None:
    """Add to an error that has ended a run where its results are."""
    advice = (
        f" What was reported and committed until then is in {path}; open it with "
        f"tune.ResultGrid(tune.ExperimentAnalysis({path!r}))."
    )
    if isinstance(error, OSError) and error.strerror:
        error.strerror += advice
    else:
        error.args = (f"{error}{advice}",)


def _usual_cpus(experiment: Experiment) -> float:
    """How many CPUs workers will probably have, before there is a config; a guess saves time."""
    from milepost.tune.plan import resources_for

    try:
        resources = resources_for(experiment.target, experiment.resources_per_trial)
        return resources({}).head_cpus
    except Exception as error:  # noqa: BLE001 - resources may depend on the config
        log.debug("resources depend on the config: %r", error)
        return 1.0
