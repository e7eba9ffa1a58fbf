"""The pure machine behind a run: events in, commands out.

It decides which trial runs where, when a trial saves, stops, is tried again or ends, which
checkpoints go, and when the run is over. It does no I/O and looks at no clock; the controller
turns what happens into events, and carries out the commands in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from milepost.control import (
    asking,
    deleting,
    events,
    exploiting,
    failing,
    invariants,
    lending,
    restarting,
    reviving,
    running,
    settling,
    starting,
    validating,
)
from milepost.control.commands import AnyCommand
from milepost.control.events import AnyEvent
from milepost.control.resources import Pool, Request
from milepost.control.state import PAUSED, PENDING, Phase, RunState, Settings, TrialState
from milepost.control.step import Step


def _search_ended(step: Step, event: events.SearchEnded) -> None:
    step.state.search_ended = True


_HANDLERS: dict[type, Callable[[Step, Any], None]] = {
    events.TrialAdded: starting.add,
    events.RunRestored: reviving.begin,
    events.TrialRestored: reviving.revive,
    events.ResultLeft: exploiting.result_left,
    events.CheckpointLeft: exploiting.left,
    events.DeletionLeft: deleting.left,
    events.ReportJudged: settling.judged,
    events.SearchEnded: _search_ended,
    events.Place: starting.place,
    events.PauseAsked: asking.pause,
    events.StopAsked: asking.stop,
    events.UnpauseAsked: asking.unpause,
    events.Reconfigured: asking.reconfigure,
    events.SaveAsked: exploiting.offer,
    events.OfferEnded: exploiting.end_offer,
    events.ExploitAsked: exploiting.exploit,
    events.ResourcesChanged: asking.change_resources,
    events.WorkerStarted: starting.started,
    events.Reported: running.reported,
    events.Saved: running.saved,
    events.Finished: running.finished,
    events.WorkerFailed: running.failed,
    events.WorkerGone: running.gone,
    events.Silent: running.silent,
    events.Preempting: restarting.preempting,
    events.BorrowAsked: lending.borrow,
    events.LoanReturned: lending.give_back,
    events.LookForRoom: lambda step, _: restarting.look_for_room(step),
    events.Committed: settling.committed,
    events.CommitFailed: failing.commit_failed,
    events.Drained: settling.drained,
    events.Deleted: deleting.deleted,
    events.Verified: settling.verified,
    events.ValidationEnded: settling.validated,
    events.ValidatorGone: validating.gone,
    events.Overdue: asking.overdue,
    events.StopAll: lambda step, event: asking.stop_all(step, by=event.by),
    events.Interrupt: asking.interrupt,
    events.GraceOver: lambda step, _: asking.grace_over(step),
}


class Machine:
    """All trials of a run.

    Args:
        settings: what stays the same.
        pool: the resources that trials share.
    """

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.settings = settings
        self.state = RunState(pool)

    def handle(self, event: AnyEvent) -> list[AnyCommand]:
        """Take in what happened; return what is to be done, in order."""
        step = Step(self.state, self.settings, event.at)
        _HANDLERS[type(event)](step, event)
        if self.state.adopting:
            exploiting.review(step)
        if self.state.returning:
            reviving.release(step)
        if self.state.failed_fast:
            asking.stop_all(step)
        validating.advance(step)
        if self.state.borrowers:
            lending.review(step)
        if self.state.deletions and not self.state.swept and self._is_settled():
            deleting.sweep(step)
        return step.out

    @property
    def trials(self) -> dict[str, TrialState]:
        """Trials that have not ended, by id."""
        return self.state.trials

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen, so that the run can end."""
        return self._is_settled() and not self.state.deletions

    def _is_settled(self) -> bool:
        """Whether no trial does anything, and none will start."""
        state = self.state
        if state.active or state.settling:
            return False
        return state.interrupted or (state.search_ended and not state.trials)

    @property
    def has_room(self) -> bool:
        """Whether a trial that waits or is paused could start now."""
        state = self.state
        if state.stopping or state.interrupted or not (len(state.queue) or state.counts[PAUSED]):
            return False
        if state.borrowers:
            return False
        if self.is_full:
            return False
        if any(self.has_room_for(request) for request in state.requests):
            return True
        return len(state.queue) > 0 and starting.idle_worker(state) is not None

    @property
    def may_grow(self) -> bool:
        """Whether a trial trains with fewer workers than it may have."""
        return any(restarting.may_grow(self.state.trials[each]) for each in self.state.active)

    @property
    def is_full(self) -> bool:
        """Whether as many trials run as may run at once."""
        limit = self.settings.max_concurrent
        return limit is not None and len(self.state.active) >= limit

    def has_room_for(self, request: Request) -> bool:
        """Whether resources for a request are free."""
        return starting.fits(self.state, self.settings, request)

    def can_exploit(self, trial_id: str, donor_id: str, iteration: int | None) -> bool:
        """Whether a trial could go on from what another one offers, as far as is on record."""
        return exploiting.is_possible(self.state, trial_id, donor_id, iteration)

    @property
    def waiting(self) -> int:
        """Number of trials that wait for their start."""
        return self.state.counts[PENDING]

    @property
    def first_waiting(self) -> str | None:
        """The trial that should start next: the first that waits, else the first paused one."""
        state = self.state
        queued = next(iter(state.queue), None)
        if queued is not None or not state.counts[PAUSED]:
            return queued
        paused = (t for t in state.trials.values() if t.phase is Phase.PAUSED)
        first = min(paused, key=lambda trial: trial.order, default=None)
        return None if first is None else first.trial_id

    @property
    def is_stuck(self) -> bool:
        """Whether only paused trials are left, so that only the scheduler can go on."""
        state = self.state
        busy = state.active or state.settling or state.adopting or len(state.queue)
        return bool(state.trials) and not busy and state.counts[PAUSED] == len(state.trials)

    def validate(self) -> None:
        """Check every invariant of the state; for tests."""
        invariants.check(self.state, self.settings)
