"""How proposals of the searcher become trials, and trials get their turn."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from milepost.api.resources import resources_of
from milepost.api.scheduler import TrialScheduler
from milepost.control import events
from milepost.control.facade import Trial
from milepost.control.group import demand
from milepost.control.ledger import LiveTrial

if TYPE_CHECKING:
    from milepost.api.search_algorithm import TrialSpec
    from milepost.control.run import Run

# How many trials are made before workers are looked after again.
_AT_ONCE = 8


def ahead(run: Run) -> int:
    """How many trials may wait for their start before the searcher is asked for more."""
    chosen = os.environ.get("TUNE_MAX_PENDING_TRIALS_PG", "auto")
    if chosen != "auto":
        return max(1, int(chosen))
    return max(1, run.plan.search.trials_ahead)


def propose(run: Run, limit: int) -> bool:
    """Ask the searcher for some trials, unless enough of them wait.

    Args:
        run: gets them.
        limit: how many may wait.

    Returns:
        Whether there is more to ask for at once: first what was proposed should start.
    """
    state = run.machine.state
    for _ in range(_AT_ONCE):
        if state.search_ended or state.stopping or state.interrupted:
            return False
        if run.machine.waiting >= limit:
            return False
        spec = run.plan.search.next_trial()
        if spec is None:
            if run.plan.search.is_finished():
                run.dispatch(events.SearchEnded(at=run.now()))
            return False
        if run.ledger.find(spec.trial_id) is not None:
            spec = _with_another_id(run, spec)
        add(run, spec)
    return True


def _with_another_id(run: Run, spec: TrialSpec) -> TrialSpec:
    """A searcher that does not know of all trials of an earlier run has proposed an id anew."""
    other = dataclasses.replace(spec, trial_id=os.urandom(4).hex())
    run.informant.names[other.trial_id] = spec.trial_id
    return other


def add(run: Run, spec: TrialSpec, *, restarts: str | None = None) -> None:
    """Make a trial of a proposal.

    Args:
        run: gets it.
        spec: the proposal.
        restarts: the trial of an earlier run that it does once more, if any.
    """
    resources = run.plan.resources(spec.config)
    trial = LiveTrial(
        trial_id=spec.trial_id,
        config=spec.config,
        evaluated=spec.evaluated_params,
        tag=spec.experiment_tag,
        resources=resources,
        ledger=run.ledger,
    )
    facade = Trial(trial, run.control)
    trial.name = run.plan.name_of(facade)
    trial.dirname = run.plan.dirname_of(facade)
    trial.raw_config = run.encoded(trial.config)
    trial.raw_evaluated = run.encoded(trial.evaluated)
    run.ledger.add(trial, facade)
    bundles = resources_of(resources)
    needs = demand(run.plan.group, trial.config, bundles)
    run.dispatch(
        events.TrialAdded(
            at=run.now(),
            trial_id=trial.trial_id,
            name=trial.name,
            directory=trial.dirname,
            tag=trial.tag,
            request=needs.request,
            most=needs.most,
            config=trial.raw_config,
            evaluated=trial.raw_evaluated,
            resources=run.encoded(bundles),
            restarts=restarts,
            size=needs.size,
        )
    )
    trial.state = run.machine.trials[trial.trial_id]
    run.plan.scheduler.on_trial_add(run.control, facade)


def place(run: Run) -> None:
    """Start trials while there is room, the scheduler's choice first.

    A scheduler chooses among all trials. So it is not asked while restored ones are on their way:
    of those that are there it might take one that should have come after them.

    Raises:
        ValueError: the scheduler chose something that is no trial.
    """
    scheduler = run.plan.scheduler
    chooses = (
        type(scheduler).choose_trial_to_run is not TrialScheduler.choose_trial_to_run
        and not run.machine.state.returning
    )
    while run.machine.has_room:
        before = run.machine.state.launched
        choice = scheduler.choose_trial_to_run(run.control) if chooses else None
        if choice is not None and not isinstance(choice, Trial):
            raise ValueError(
                f"{type(scheduler).__name__}.choose_trial_to_run() returned {choice!r} "
                f"({type(choice).__name__}). It must return a trial of the run or None."
            )
        run.dispatch(
            events.Place(at=run.now(), first=choice.trial_id if choice is not None else None)
        )
        if run.machine.state.launched == before:
            return
