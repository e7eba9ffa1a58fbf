"""What must hold between any two events."""

from __future__ import annotations

from collections import Counter

from milepost.control import validating
from milepost.control.state import (
    ACTIVE,
    PAUSED,
    PENDING,
    RUNNING,
    Phase,
    RunState,
    Settings,
    TrialState,
)

_STATUS = {
    Phase.QUEUED: {PENDING},
    Phase.PREPARING: {PENDING},
    Phase.STARTING: {PENDING},
    Phase.TRAINING: {RUNNING},
    Phase.SAVING: {RUNNING},
    Phase.STOPPING: {RUNNING},
    Phase.DYING: {PENDING, RUNNING},
    Phase.SETTLING: {PENDING, RUNNING, PAUSED},  # PAUSED when it was restored
    Phase.PAUSED: {PAUSED},
    Phase.ADOPTING: {PAUSED},
}


def check(state: RunState, settings: Settings) -> None:
    """Raise AssertionError where the state contradicts itself."""
    grants = [t.grant for t in state.trials.values() if t.grant is not None]
    grants += [w.grant for w in state.workers.values() if w.grant is not None]
    grants += [loan.grant for w in state.workers.values() for loan in w.loans.values()]
    grants += [state.validator.grant] if state.validator is not None else []
    state.pool.validate(grants)
    for asked in state.borrowers:
        assert state.workers[asked.worker_id].trial_id in state.active

    by_phase: dict[Phase, set[str]] = {phase: set() for phase in Phase}
    for trial_id, trial in state.trials.items():
        assert trial.trial_id == trial_id
        by_phase[trial.phase].add(trial_id)
        _check_trial(state, trial)
    assert not by_phase[Phase.ENDED]
    assert set(state.queue) == by_phase[Phase.QUEUED]
    assert state.active == set().union(*(by_phase[phase] for phase in ACTIVE))
    assert state.settling == by_phase[Phase.SETTLING]
    assert state.adopting == by_phase[Phase.ADOPTING]
    waiting = by_phase[Phase.QUEUED] | by_phase[Phase.PAUSED]
    assert state.requests == Counter(state.trials[trial_id].request for trial_id in waiting)
    if settings.max_concurrent is not None:
        assert len(state.active) <= settings.max_concurrent

    live = Counter(trial.status for trial in state.trials.values())
    for status in (PENDING, RUNNING, PAUSED):
        assert state.counts[status] == live[status], (status, state.counts, live)
    assert sum(state.counts.values()) == state.created

    for trial_id in state.returning:
        assert state.trials[trial_id].phase in (Phase.SETTLING, Phase.PREPARING, Phase.ADOPTING)
    assert state.returning or not state.held
    assert state.created <= state.next_order

    _check_offers(state)
    _check_validations(state)
    for worker_id, worker in state.workers.items():
        assert worker.worker_id == worker_id
        if worker.trial_id is not None:
            assert worker_id in state.trials[worker.trial_id].workers
            assert worker.grant is None, "its trial holds the resources"
        elif not worker.ending:
            assert settings.reuse, "only reused workers idle"
            assert worker.grant is not None


def _check_trial(state: RunState, trial: TrialState) -> None:
    assert trial.status in _STATUS[trial.phase], (trial.phase, trial.status)
    if trial.phase in ACTIVE:
        assert trial.grant is not None
        assert trial.workers
        for worker_id in trial.workers:
            assert state.workers[worker_id].trial_id == trial.trial_id
    else:
        assert trial.grant is None
        assert not trial.workers
    if trial.phase is Phase.SETTLING:
        assert trial.goal is not None
        waits = trial.inflight or trial.draining or trial.unjudged
        assert waits or validating.is_pending(state, trial.trial_id)
    elif trial.phase not in ACTIVE:
        assert not trial.draining
        assert not trial.inflight
        assert not trial.early
        assert not trial.unjudged
    for index in (*trial.inflight, *trial.checkpoints):
        assert index < trial.next_index
    assert not trial.inflight.keys() & trial.checkpoints.keys()
    if trial.phase is Phase.ADOPTING:
        assert trial.adoption is not None
    forks = trial.fork is not None and trial.start is trial.fork.checkpoint
    if trial.start is not None and trial.phase is Phase.QUEUED and not forks:
        assert trial.start.index in trial.checkpoints, "a start must never be deleted"
    assert list(trial.checkpoints) == sorted(trial.checkpoints)
    for index in trial.checkpoints:
        assert (trial.trial_id, index) not in state.deletions, "kept and being deleted"


def _check_validations(state: RunState) -> None:
    for pending in state.validations:
        trial = state.trials.get(pending.trial_id)
        assert trial is not None or state.interrupted, "a trial ends after its validations"
        assert trial is None or pending.index in trial.checkpoints, "what is pending stays"
    validator = state.validator
    if validator is not None and not validator.over:
        assert state.validations[0] == validator.of, "first come, first served"


def _check_offers(state: RunState) -> None:
    held = Counter(
        id(offer)
        for trial in state.trials.values()
        for offer in (trial.offer, trial.fork, trial.adoption and trial.adoption.offer)
        if offer is not None
    )
    held.update(map(id, state.results))
    for trial_id, offers in state.offers.items():
        assert offers
        owner = state.trials.get(trial_id)
        for offer in offers:
            assert offer.trial_id == trial_id
            assert offer.holders >= held[id(offer)]
            assert state.interrupted or state.failed_fast or offer.holders == held[id(offer)]
            if offer.checkpoint is not None:
                assert offer.checkpoint.index == offer.index
                assert (trial_id, offer.index) not in state.deletions, "what is held stays"
                assert owner is None or offer.index in owner.checkpoints
    listed = {id(offer) for offers in state.offers.values() for offer in offers}
    assert held.keys() <= listed
    for trial_id, index in state.orphans:
        assert trial_id not in state.trials
        assert (trial_id, index) not in state.deletions
        assert any(offer.index == index for offer in state.offers.get(trial_id, ()))
