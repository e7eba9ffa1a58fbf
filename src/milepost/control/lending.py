"""Resources for the workers of trainers that run inside trials.

A trainer in a trial starts workers of its own. They may hold the bundles that the trial has beside
that of its own process, and whatever else of the run's resources is free. What is lent is given
back when the trainer has ended, or its trial's process.

Nobody waits for what cannot come: when all who hold something wait themselves, the last one to ask
is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from milepost.control import commands, events
from milepost.control.loans import Borrower, Loan
from milepost.control.resources import Grant, Request, request_of, shown
from milepost.control.state import Phase, RunState, TrialState, WorkerState
from milepost.control.step import Step


def borrow(step: Step, event: events.BorrowAsked) -> None:
    """A trainer in a trial asks for resources."""
    if step.runner(event.worker_id) is not None:
        asked = Borrower(event.worker_id, event.number, event.most, event.least)
        step.state.borrowers.append(asked)


def give_back(step: Step, event: events.LoanReturned) -> None:
    """A trainer in a trial has ended, and all its workers."""
    worker = step.state.workers.get(event.worker_id)
    loan = None if worker is None else worker.loans.pop(event.number, None)
    if loan is not None:
        step.state.pool.release(loan.grant)


def gone(step: Step, worker: WorkerState) -> None:
    """A process has ended, and so have all that it had started."""
    for loan in worker.loans.values():
        step.state.pool.release(loan.grant)
    state = step.state
    state.borrowers = [each for each in state.borrowers if each.worker_id != worker.worker_id]


def review(step: Step) -> None:
    """After whatever has happened, lend what is free now, and refuse what will never be."""
    state = step.state
    for asked in list(state.borrowers):
        if step.runner(asked.worker_id) is None:  # it is being ended
            state.borrowers.remove(asked)
        elif state.stopping or state.interrupted:
            _answer(step, asked, why="the run ends")
        else:
            _lend(step, asked)
    for asked in state.borrowers[::-1]:  # those before it have waited for longer
        why = _why_never(state, asked)
        if why is not None:
            _answer(step, asked, why=why)


def _lend(step: Step, asked: Borrower) -> None:
    """Lend as much as there is, if it is enough."""
    state = step.state
    worker = state.workers[asked.worker_id]
    trial = state.trials[worker.trial_id or ""]
    assert trial.grant is not None
    for size in range(len(asked.most.bundles), asked.least - 1, -1):
        own, rest = _matched(trial, worker, asked.most.first(size))
        grant = state.pool.acquire(rest)
        if grant is not None:
            worker.loans[asked.number] = Loan(own, grant)
            gpus = [gpu for bundle in own for gpu in trial.grant.gpu_ids(bundle) or ()]
            gpus += [gpu for bundle in grant.gpus for gpu, _ in bundle]
            _answer(step, asked, size=size, gpus=tuple(dict.fromkeys(gpus)))
            return


def _matched(
    trial: TrialState, worker: WorkerState, request: Request
) -> tuple[tuple[int, ...], Request]:
    """Those of a trial's own bundles that serve a request, and what is left of that."""
    assert trial.grant is not None
    taken = {bundle for loan in worker.loans.values() for bundle in loan.own}
    bundles = trial.grant.request.bundles
    # The first is for the process itself; of a group each has a process of its own.
    spare = [] if trial.size > 1 else [i for i in range(1, len(bundles)) if i not in taken]
    own, rest = [], []
    for asked in request.bundles:
        found = next((i for i in spare if _holds(dict(bundles[i]), dict(asked))), None)
        if found is None:
            rest.append(asked)
        else:
            spare.remove(found)
            own.append(found)
    return tuple(own), Request(tuple(rest)) if rest else request_of(())


def _holds(there: dict[str, int], asked: dict[str, int]) -> bool:
    return all(there.get(name, 0) >= amount for name, amount in asked.items())


def _answer(
    step: Step, asked: Borrower, *, size: int = 0, gpus: tuple[str, ...] = (), why: str = ""
) -> None:
    step.state.borrowers.remove(asked)
    step.do(
        commands.Lend(worker_id=asked.worker_id, number=asked.number, size=size, gpus=gpus, why=why)
    )


def _why_never(state: RunState, asked: Borrower) -> str | None:
    """Why a trainer would wait for ever: all that is missing is held by others who wait, too."""
    trial = state.trials[state.workers[asked.worker_id].trial_id or ""]
    worker = state.workers[asked.worker_id]
    _, rest = _matched(trial, worker, asked.most.first(asked.least))
    waiting = {state.workers[each.worker_id].trial_id for each in state.borrowers}
    held = [grant for owner, grant in _grants(state) if owner in waiting]
    if state.pool.fits_without(rest, held):
        return None
    return (
        f"it needs {rest}, of {shown(state.pool.amounts)} in all, and what is not free is held by "
        f"{'trials that wait' if len(waiting) > 1 else 'the trial itself, which waits'}"
    )


def _grants(state: RunState) -> Iterator[tuple[str | None, Grant]]:
    """What is held, and by whose processes."""
    for trial in state.trials.values():
        if trial.grant is not None and trial.phase is not Phase.DYING:
            yield trial.trial_id, trial.grant
    for worker in state.workers.values():
        for loan in worker.loans.values():
            yield worker.trial_id, loan.grant
