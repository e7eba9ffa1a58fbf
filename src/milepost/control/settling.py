"""What happens between the end of user code and what follows: commits, drains, starts, ends.

A trial that has stopped has freed its slot, but it ends, pauses or starts again only when every
checkpoint that it captured is committed or has failed.
"""

from __future__ import annotations

import msgspec

from milepost.checkpoint.manifest import own_name
from milepost.control import commands, deleting, events, exploiting, validating
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.state import ERROR, PAUSED, PENDING, TERMINATED, Halt, Phase, TrialState
from milepost.control.step import Step
from milepost.journal import records


def captured(step: Step, trial: TrialState, index: int) -> None:
    """The worker told of a capture, which belongs to its last report."""
    if index < trial.next_index:
        return  # the keeper was faster, and could not commit it
    trial.next_index = max(trial.next_index, index + 1)
    trial.inflight[index] = Capture(trial.iteration, trial.row, trial.score)
    early = trial.early.pop(index, None)
    if early is not None:
        _register(step, trial, early, trial.inflight.pop(index))


def committed(step: Step, event: events.Committed) -> None:
    """The keeper published a checkpoint."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None:
        return
    told = event.index in trial.inflight
    if not told and event.index < trial.next_index and not event.adopted:
        return  # a keeper that was replaced had told of it before
    if not told and not trial.draining and event.attempt == trial.attempt:
        # The keeper was faster than the worker's message, which comes next: results first.
        trial.early[event.index] = event
        return
    if told:
        _register(step, trial, event, trial.inflight.pop(event.index))
    else:
        _adopt(step, trial, event)
    if trial.phase is Phase.SETTLING:
        settle(step, trial)


def _adopt(step: Step, trial: TrialState, event: events.Committed) -> None:
    """A checkpoint is there whose report never came: its worker or the driver died in between."""
    trial.next_index = max(trial.next_index, event.index + 1)
    if step.settings.kind == "class" and _is_of_last_row(trial, event):
        step.record(
            records.Saving(
                at=step.at, trial=trial.trial_id, attempt=event.attempt, index=event.index
            )
        )
        exploiting.captured(trial, event.index)
        capture = Capture(trial.iteration, trial.row, trial.score)
        _register(step, trial, event, capture)
        return
    trial.unjudged[event.index] = event
    step.do(
        commands.Judge(
            trial_id=trial.trial_id, index=event.index, iteration=event.iteration, row=event.row
        )
    )


def _is_of_last_row(trial: TrialState, event: events.Committed) -> bool:
    """Whether a class was told to save after the last report, and that is what it saved."""
    return event.attempt == trial.attempt and event.iteration == trial.iteration


def judged(step: Step, event: events.ReportJudged) -> None:
    """The row of an adopted checkpoint was judged: now it is a report like any other."""
    trial = step.state.trials.get(event.trial_id)
    commit = None if trial is None else trial.unjudged.pop(event.index, None)
    if trial is None or commit is None:
        return
    if event.on_record:
        _add_to_row(step, trial, commit, event)
    else:
        _take_report(step, trial, commit, event)
    if trial.phase is Phase.SETTLING:
        settle(step, trial)


def _add_to_row(
    step: Step, trial: TrialState, commit: events.Committed, event: events.ReportJudged
) -> None:
    """Only the checkpoint is new; the trial may have reported more since."""
    if event.iteration == trial.iteration:
        exploiting.captured(trial, event.index)
    _register(step, trial, commit, Capture(event.iteration, event.row, event.score))


def _take_report(
    step: Step, trial: TrialState, commit: events.Committed, event: events.ReportJudged
) -> None:
    trial.iteration, trial.row, trial.score = event.iteration, event.row, event.score
    step.record(
        records.Reported(
            at=event.at,
            trial=trial.trial_id,
            attempt=commit.attempt,
            iteration=event.iteration,
            row=event.row,
            action=event.action,
            by_condition=event.by_condition,
            checkpoint=event.index,
        )
    )
    exploiting.reported(step, trial, event.index)
    _register(step, trial, commit, Capture(event.iteration, event.row, event.score))
    if event.action != "continue" and trial.goal in (PENDING, PAUSED):
        trial.goal = TERMINATED if event.action == "stop" else PAUSED


def _register(step: Step, trial: TrialState, event: events.Committed, capture: Capture) -> None:
    checkpoint = Checkpoint(
        index=event.index,
        path=event.path,
        iteration=capture.iteration,
        row=capture.row,
        score=capture.score,
        digest=event.digest,
    )
    trial.next_index = max(trial.next_index, event.index + 1)
    trial.checkpoints[event.index] = checkpoint
    trial.starved = False
    step.record(
        records.Committed(
            at=step.at,
            trial=trial.trial_id,
            attempt=event.attempt,
            index=event.index,
            iteration=checkpoint.iteration,
            nbytes=event.nbytes,
            digest=event.digest,
            validation=event.validation or msgspec.UNSET,
            dir_name=own_name(event.index, event.path),
        )
    )
    if event.validation is not None:
        validating.await_outcome(step, trial, event.index, event.validation)
    step.do(commands.CheckpointKept(trial_id=trial.trial_id, checkpoint=checkpoint))
    exploiting.committed(step, trial, checkpoint)
    deleting.retain(step, trial)


def validated(step: Step, event: events.ValidationEnded) -> None:
    """The validation of a checkpoint is over: its trial may have waited for that to end."""
    trial = validating.ended(step, event)
    if trial is not None and trial.phase is Phase.SETTLING:
        settle(step, trial)


# --- after an attempt -----------------------------------------------------------------------


def drain(step: Step, trial: TrialState, *, all_attempts: bool = False) -> None:
    """Have every capture of a failed or killed attempt settled, also those never told of."""
    trial.draining = True
    for index in sorted(trial.early):
        _adopt(step, trial, trial.early.pop(index))
    step.move(trial, Phase.SETTLING)
    attempt = None if all_attempts else trial.attempt
    step.do(commands.Drain(trial_id=trial.trial_id, attempt=attempt))


def drained(step: Step, event: events.Drained) -> None:
    """All captures of the attempt are settled."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None or not trial.draining or event.attempt not in (None, trial.attempt):
        return
    trial.draining = False
    trial.next_index = max(trial.next_index, event.highest_index + 1)
    for index in sorted(trial.inflight):
        # Told of by the worker, unknown to the keeper: it cannot come any more.
        del trial.inflight[index]
        exploiting.lost(step, trial.trial_id, index)
        reason = "it was reported as captured, but the keeper has nothing of it"
        step.record(
            records.Lost(
                at=event.at,
                trial=trial.trial_id,
                attempt=trial.attempt,
                index=index,
                reason=reason,
            )
        )
        step.warn(f"Trial {trial.name}: checkpoint {index:06d} is lost: {reason}.")
    settle(step, trial)


def settle(step: Step, trial: TrialState) -> None:
    """Go on to the trial's goal if nothing is awaited any more."""
    if trial.phase is not Phase.SETTLING:
        step.move(trial, Phase.SETTLING)
    if trial.inflight or trial.draining or trial.unjudged:
        return
    assert trial.goal is not None
    if trial.needs_last_save and trial.goal == TERMINATED and not _has_last_save(trial):
        step.info(f"Trial {trial.name} was to stop, but its last checkpoint is not there: again.")
        trial.goal, trial.stops_at = PENDING, trial.iteration
    trial.needs_last_save = False
    if trial.goal == PENDING and _was_stopped(trial):
        step.info(f"Trial {trial.name} was to stop, and its last checkpoint is there: it ends.")
        trial.goal = TERMINATED
    if trial.adoption is not None and trial.goal in (PENDING, PAUSED):
        exploiting.wait(step, trial)
    elif trial.goal == PENDING:
        prepare(step, trial)
    elif trial.goal == PAUSED:
        _pause(step, trial)
    else:
        end(step, trial, ran=trial.attempt >= 0)


def _was_stopped(trial: TrialState) -> bool:
    """Whether its worker died when all was done but for the word that the last save is made."""
    if trial.halt is Halt.INTERRUPT:  # the run was to end, not the trial
        return False
    return trial.after_save == "stop" and trial.lost is None and _has_last_save(trial)


def _has_last_save(trial: TrialState) -> bool:
    latest = trial.latest
    if latest is None or latest.index < trial.floor:  # older than what it went on from
        return False
    return latest.iteration == trial.iteration


def _pause(step: Step, trial: TrialState) -> None:
    trial.halt = None
    step.move(trial, Phase.PAUSED)
    step.set_status(trial, PAUSED)


def end(step: Step, trial: TrialState, *, ran: bool = True) -> None:
    """The trial leaves the state with its goal as its last status, once all is validated."""
    assert trial.goal in (TERMINATED, ERROR)
    if validating.is_pending(step.state, trial.trial_id):
        if not step.state.interrupted:
            step.move(trial, Phase.SETTLING)
            return
        trial.quiet = True  # the run goes on with that later
    # What the user or somebody else's failure has cut short can be gone on with later.
    cut_short = step.state.interrupted or step.state.failed_fast
    unfinished = trial.quiet and cut_short and trial.goal == TERMINATED
    if unfinished:
        step.state.unfinished.add(trial.trial_id)
        if trial.offer is not None:
            step.state.unfinished_offers[trial.trial_id] = trial.offer
    if trial.unverified and not unfinished:  # it needs no start, so nobody verifies it any more
        trial.unverified = False
        deleting.retain(step, trial)
    if not unfinished:
        exploiting.leave(step, trial)
    step.move(trial, Phase.ENDED)
    is_cut = trial.quiet and not trial.own_end and trial.goal == TERMINATED
    cut_by = step.state.stopped_by if is_cut else ""
    step.set_status(trial, trial.goal, recorded=not unfinished, cut_by=cut_by)
    if trial.goal == ERROR:
        step.do(commands.TrialErrored(trial.trial_id, trial.absolved))
    elif not trial.quiet:
        step.do(commands.TrialCompleted(trial_id=trial.trial_id, ran=ran))
    step.do(commands.TrialEnded(trial.trial_id))
    del step.state.trials[trial.trial_id]


# --- before the next attempt ----------------------------------------------------------------


def prepare(step: Step, trial: TrialState, *, in_front: bool = False) -> None:
    """Choose where the next attempt starts: the newest checkpoint that passes verification.

    As long as it has none of its own since it went on from another trial's, that is the one.
    """
    trial.halt, trial.goal, trial.in_front = None, None, in_front
    step.set_status(trial, PENDING)
    source = exploiting.depends_on(step, trial)
    own = tuple(reversed(trial.checkpoints.values()))
    candidates = own if source is None else (source,)
    if not candidates:
        trial.unverified = False
    if not candidates or step.state.interrupted:
        trial.start = trial.start_id = None
        ready(step, trial)
        return
    step.move(trial, Phase.PREPARING)
    verify(step, trial, candidates)


def verify(step: Step, trial: TrialState, candidates: tuple[Checkpoint, ...]) -> None:
    """Find the newest of some checkpoints whose files are what was committed."""
    trial.ticket += 1
    step.do(
        commands.Verify(
            trial_id=trial.trial_id,
            ticket=trial.ticket,
            candidates=candidates,
            contents=trial.unclean,
        )
    )


def verified(step: Step, event: events.Verified) -> None:
    """The start is chosen; checkpoints newer than it did not pass and are given up."""
    trial = step.state.trials.get(event.trial_id)
    if trial is None or event.ticket != trial.ticket:
        return
    if exploiting.verified(step, trial, event) or trial.phase is not Phase.PREPARING:
        return
    for index in sorted(trial.checkpoints, reverse=True):
        if index == event.index:
            break
        del trial.checkpoints[index]
        exploiting.lost(step, trial.trial_id, index)
        step.record(
            records.Lost(
                at=event.at,
                trial=trial.trial_id,
                attempt=trial.attempt,
                index=index,
                reason="it failed verification",
            )
        )
    trial.start = trial.checkpoints[event.index] if event.index is not None else None
    trial.start_id = event.id
    trial.unclean = trial.unverified = False
    deleting.retain(step, trial)
    if trial.start is None:
        step.warn(
            f"Trial {trial.name}: none of its checkpoints passed verification, so it starts from "
            "the beginning."
        )
    ready(step, trial)


def ready(step: Step, trial: TrialState) -> None:
    """Let a trial wait for resources; if it never ran, restored ones that did come first."""
    if trial.attempt < 0 and step.state.returning:
        step.move(trial, Phase.PREPARING)
        step.state.held.append(trial.trial_id)
        return
    step.enqueue(trial, in_front=trial.in_front)
    if trial.recovering:
        trial.recovering = False
        step.do(commands.TrialRecovered(trial.trial_id))


def unpause(step: Step, trial: TrialState, *, in_front: bool = False) -> None:
    """Let a paused trial go on when there is room."""
    if trial.phase is Phase.PAUSED:
        prepare(step, trial, in_front=in_front)
