"""How trials begin: they are added, wait for resources, and are given workers."""

from __future__ import annotations

from milepost.control import commands, events, settling, validating
from milepost.control.resources import Grant, Request
from milepost.control.state import (
    PENDING,
    RUNNING,
    Phase,
    RunState,
    Settings,
    TrialState,
    WorkerState,
)
from milepost.control.step import Step
from milepost.journal import records


def add(step: Step, event: events.TrialAdded) -> None:
    """A trial was proposed: it waits for its first start."""
    state = step.state
    assert event.trial_id not in state.trials, event.trial_id
    never = state.pool.why_never(event.request) or validating.why_never(
        state, step.settings, event.request
    )
    if never is not None:
        step.do(
            commands.Abort(
                f"Trial {event.name} can never start: {never}. Ask for less in "
                "tune.with_resources(...) or resources_per_trial, or declare more with "
                "milepost.init(num_cpus=..., num_gpus=..., resources=...)."
            )
        )
        return
    trial = TrialState(
        trial_id=event.trial_id,
        order=state.next_order,
        name=event.name,
        directory=event.directory,
        request=event.request,
        most=event.most,
        size=event.size,
    )
    state.created += 1
    state.next_order += 1
    state.trials[event.trial_id] = trial
    state.counts[PENDING] += 1
    step.asks_for(trial.request, +1)
    state.queue.add(trial.trial_id, trial.request)
    step.record(
        records.Created(
            at=event.at,
            trial=trial.trial_id,
            name=trial.name,
            directory=trial.directory,
            tag=event.tag,
            order=trial.order,
            config=event.config,
            evaluated=event.evaluated,
            resources=event.resources,
            restarts=event.restarts,
        )
    )
    if state.returning:
        settling.ready(step, trial)


def place(step: Step, event: events.Place) -> None:
    """Start as many waiting trials as fit, the scheduler's choice first."""
    state = step.state
    if state.stopping or state.interrupted or state.borrowers:
        return  # those that run already come first
    first = state.trials.get(event.first) if event.first is not None else None
    if first is not None and first.phase is Phase.PAUSED:
        settling.unpause(step, first, in_front=True)
    if first is not None and first.phase is Phase.QUEUED and _has_slot(step):
        _try_start(step, first)
    while _has_slot(step) and len(state.queue):
        trial_id = state.queue.choose(lambda request: fits(state, step.settings, request))
        if trial_id is None:
            if not _reclaim(step):
                return
        elif not _try_start(step, state.trials[trial_id]):
            return


def fits(state: RunState, settings: Settings, request: Request) -> bool:
    """Whether a trial with this request could start now: resources are free, or a worker idles."""
    if settings.reuse and idle_worker(state, request) is not None:
        return True
    return validating.leaves_room(state, settings, request)


def idle_worker(state: RunState, request: Request | None = None) -> WorkerState | None:
    """A worker without a trial, for one request or for any."""
    for worker in state.workers.values():
        if (
            worker.trial_id is None
            and not worker.ending
            and (request is None or worker.request == request)
        ):
            return worker
    return None


def _has_slot(step: Step) -> bool:
    limit = step.settings.max_concurrent
    return limit is None or len(step.state.active) < limit


def _reclaim(step: Step) -> bool:
    """End one idle worker, so that a trial with another request finds room."""
    worker = idle_worker(step.state)
    if worker is None:
        return False
    freed_now = worker.grant is not None and not worker.grant.request.has_gpus
    step.end_worker(worker)
    return freed_now


def _try_start(step: Step, trial: TrialState) -> bool:
    state = step.state
    reuses = step.settings.reuse and trial.size == 1
    idle = idle_worker(state, trial.request) if reuses else None
    if idle is not None:
        grant, idle.grant = idle.grant, None
        assert grant is not None
        idle.trial_id = trial.trial_id
        workers = [idle]
    else:
        granted = _acquire(step, trial)
        if granted is None:
            return False
        grant = granted
        workers = [_new_worker(step, trial, grant, rank) for rank in range(trial.size)]
    trial.grant = grant
    trial.workers = [worker.worker_id for worker in workers]
    trial.started, trial.finished = set(), set()
    trial.attempt += 1
    state.launched += 1
    trial.goal, trial.problem, trial.lost = None, None, None
    trial.preempted, trial.taken = (), None
    trial.storage_full, trial.quiet, trial.own_end = False, False, False
    trial.has_saved, trial.spared = False, False
    trial.after_save, trial.saves_on_pause = "continue", True
    step.move(trial, Phase.STARTING)
    _run(step, trial, reset=idle is not None)
    return True


def _acquire(step: Step, trial: TrialState) -> Grant | None:
    """Take what a trial needs; one that may have more workers gets as many as there is room for."""
    if trial.most is None:
        return _taken(step, trial.request)
    for size in range(len(trial.most.bundles), len(trial.request.bundles) - 1, -1):
        grant = _taken(step, trial.most.first(size))
        if grant is not None:
            trial.size = size
            return grant
    return None


def _taken(step: Step, request: Request) -> Grant | None:
    if not validating.leaves_room(step.state, step.settings, request):
        return None
    return step.state.pool.acquire(request)


def _new_worker(step: Step, trial: TrialState, grant: Grant, rank: int) -> WorkerState:
    state = step.state
    worker = WorkerState(f"worker-{state.workers_started}", trial.trial_id, trial.request)
    state.workers_started += 1
    state.workers[worker.worker_id] = worker
    # One worker is the head; of several each has a bundle, as far as there are bundles.
    bundle = min(rank, len(grant.request.bundles) - 1)
    step.do(
        commands.StartWorker(
            worker_id=worker.worker_id,
            trial_id=trial.trial_id,
            cpus=grant.request.cpus(bundle),
            gpus=grant.gpu_ids(bundle),
        )
    )
    return worker


def _run(step: Step, trial: TrialState, *, reset: bool) -> None:
    attempt_id = f"{step.settings.run_id}-{trial.trial_id}-{trial.attempt}"
    step.record(
        records.Launched(
            at=step.at,
            trial=trial.trial_id,
            attempt=trial.attempt,
            attempt_id=attempt_id,
            first_index=trial.next_index,
            checkpoint=step.relative(trial.start.path) if trial.start else None,
        )
    )
    for rank, worker_id in enumerate(trial.workers):
        step.do(
            commands.RunTrial(
                worker_id=worker_id,
                trial_id=trial.trial_id,
                rank=rank,
                size=trial.size,
                attempt=trial.attempt,
                attempt_id=attempt_id,
                first_index=trial.next_index,
                start=trial.start,
                parent=trial.start_id,
                reset=reset,
            )
        )


def started(step: Step, event: events.WorkerStarted) -> None:
    """User code is about to run; the trial is running once all its workers say so."""
    trial = step.runner(event.worker_id)
    if trial is None or trial.phase is not Phase.STARTING:
        return
    trial.started.add(event.worker_id)
    if len(trial.started) == trial.size:
        trial.restore_failures = 0
        step.move(trial, Phase.TRAINING)
        step.set_status(trial, RUNNING)
