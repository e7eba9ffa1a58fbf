"""One step of the machine: the state it changes and the commands it gives."""

from __future__ import annotations

from milepost.control import commands
from milepost.control.commands import AnyCommand
from milepost.control.resources import Request
from milepost.control.state import (
    ACTIVE,
    WAITING,
    Phase,
    RunState,
    Settings,
    Status,
    TrialState,
    WorkerState,
)
from milepost.journal import records
from milepost.journal.records import AnyRecord

_ASKING = (Phase.PREPARING, Phase.ADOPTING)


class Step:
    """Collects the commands of one event.

    Args:
        state: changed in place.
        settings: of the run.
        at: time of the event, for records.
    """

    __slots__ = ("at", "out", "settings", "state")

    def __init__(self, state: RunState, settings: Settings, at: float) -> None:
        self.state = state
        self.settings = settings
        self.at = at
        self.out: list[AnyCommand] = []

    def do(self, command: AnyCommand) -> None:
        """Give a command."""
        self.out.append(command)

    def record(self, record: AnyRecord) -> None:
        """Append to the journal."""
        self.out.append(commands.Record(record))

    def info(self, text: str) -> None:
        """Say what was decided."""
        self.out.append(commands.Notice(level="info", text=text))

    def warn(self, text: str) -> None:
        """Say what the user should know."""
        self.out.append(commands.Notice(level="warning", text=text))

    def relative(self, path: str) -> str:
        """A path below the experiment, as the journal keeps it."""
        return path.removeprefix(self.settings.root).lstrip("/")

    def runner(self, worker_id: str) -> TrialState | None:
        """The trial that a worker runs now, if any."""
        worker = self.state.workers.get(worker_id)
        return self.runner_of(worker) if worker is not None else None

    def runner_of(self, worker: WorkerState) -> TrialState | None:
        """The same, from the worker."""
        return self.state.trials.get(worker.trial_id) if worker.trial_id is not None else None

    def move(self, trial: TrialState, phase: Phase) -> None:
        """Put a trial into a phase; keeps the queue and the sets of the state in step."""
        state, trial_id = self.state, trial.trial_id
        if trial.phase is Phase.QUEUED and phase is not Phase.QUEUED:
            state.queue.discard(trial_id)
        if trial.phase in _ASKING:
            trial.ticket += 1  # nobody waits for the answer any more
        self.asks_for(trial.request, (phase in WAITING) - (trial.phase in WAITING))
        trial.phase = phase
        (state.active.add if phase in ACTIVE else state.active.discard)(trial_id)
        (state.settling.add if phase is Phase.SETTLING else state.settling.discard)(trial_id)
        (state.adopting.add if phase is Phase.ADOPTING else state.adopting.discard)(trial_id)

    def asks_for(self, request: Request, change: int) -> None:
        """Count waiting trials by request."""
        if not change:
            return
        requests = self.state.requests
        requests[request] = requests.get(request, 0) + change
        if not requests[request]:
            del requests[request]

    def enqueue(self, trial: TrialState, *, in_front: bool = False) -> None:
        """Let a trial wait for resources."""
        self.move(trial, Phase.QUEUED)
        self.state.queue.add(trial.trial_id, trial.request, in_front=in_front)

    def set_status(
        self, trial: TrialState, status: Status, *, recorded: bool = True, cut_by: str = ""
    ) -> None:
        """Give a trial another status; recorded unless the user interrupts."""
        if status == trial.status:
            return
        self.state.counts[trial.status] -= 1
        self.state.counts[status] += 1
        trial.status = status
        if recorded:
            self.record(
                records.Changed(at=self.at, trial=trial.trial_id, status=status, cut_by=cut_by)
            )

    # --- workers and their resources --------------------------------------------------------

    def attend(self, trial: TrialState) -> None:
        """Have a trial wait for the answer to its next report, as it is to stop there."""
        if not self.settings.judged:
            for worker_id in trial.workers:
                self.do(commands.Attend(worker_id))

    def release(self, trial: TrialState, *, reusable: bool = False) -> None:
        """Free a trial's slot and part from its workers, which are done with user code.

        GPUs are free only when the process has exited, because it holds their memory until then.
        """
        grant, trial.grant = trial.grant, None
        workers = [self.state.workers[w] for w in trial.workers if w in self.state.workers]
        trial.workers = []
        for worker in workers:
            worker.trial_id = None
        if reusable and len(workers) == 1 and not workers[0].ending:
            workers[0].grant = grant
            return
        for worker in workers:
            self.end_worker(worker)
        if grant is not None:
            if grant.request.has_gpus and workers:
                workers[0].grant = grant
            else:
                self.state.pool.release(grant)

    def end_worker(self, worker: WorkerState) -> None:
        """Tell a worker without a trial to exit, and free what it holds once it may be."""
        if worker.ending:
            return
        worker.ending = True
        self.do(commands.EndWorker(worker.worker_id))
        if worker.grant is not None and not worker.grant.request.has_gpus:
            self.state.pool.release(worker.grant)
            worker.grant = None

    def kill_workers(self, trial: TrialState) -> None:
        """Kill what runs a trial; their deaths are awaited."""
        for worker_id in trial.workers:
            worker = self.state.workers.get(worker_id)
            if worker is not None and not worker.ending:
                worker.ending = True
                self.do(commands.KillWorker(worker_id))
        self.move(trial, Phase.DYING)
