"""Reports that nobody received, because the worker or the driver died: only a checkpoint is left.

Its manifest has the whole row. It is judged as if it had just come, so that a trial does not go
on past the point where it should have stopped. A row that is on record is not: a journal whose
end was lost has been completed with the rows of the result files, and those may be there when
their checkpoints are still on their way.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from milepost.control import commands, events
from milepost.control.judge import Verdict
from milepost.control.state import PENDING, TrialState

if TYPE_CHECKING:
    from milepost.control.ledger import LiveTrial
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")


def judge(run: Run, command: commands.Judge) -> None:
    """Ask everybody who has a say, tell callbacks, and tell the machine."""
    state = run.machine.trials[command.trial_id]
    trial = run.ledger.live[command.trial_id]
    row: dict[str, Any] = run.decoded(command.row)
    if _is_on_record(state, trial, command, row):
        run.dispatch(
            events.ReportJudged(
                at=run.now(),
                trial_id=trial.trial_id,
                index=command.index,
                iteration=command.iteration,
                row=command.row,
                score=run.score(row),
                on_record=True,
            )
        )
        return
    log.info(
        "Trial %s: iteration %d is known from checkpoint %06d only, which was committed before "
        "the driver heard of it; its result counts.",
        trial.name,
        command.iteration,
        command.index,
    )
    row["config"] = trial.config
    facade = run.ledger.facade(trial.trial_id)
    verdict = Verdict("continue")
    if state.goal == PENDING:  # otherwise it has been decided already what becomes of it
        verdict = run.judge.judge(facade, row)
    run.hooks.fire("on_trial_result", trial=facade, result=row)
    trial.last_row, trial.last_time = row, run.now()
    run.dispatch(
        events.ReportJudged(
            at=trial.last_time,
            trial_id=trial.trial_id,
            index=command.index,
            iteration=command.iteration,
            row=run.encoded({key: value for key, value in row.items() if key != "config"}),
            score=run.score(row),
            action=verdict.action,
            by_condition=verdict.by_condition,
        )
    )
    row["experiment_tag"] = trial.tag
    trial.metrics.add(row)
    if run.plan.metric is not None:
        run.tally.offer(trial.trial_id, trial.metrics.last(run.plan.metric))


def _is_on_record(
    state: TrialState, trial: LiveTrial, command: commands.Judge, row: dict[str, Any]
) -> bool:
    """Whether an earlier run has recorded the report; its rows are read only if that can be."""
    if trial.earlier is None:
        return False
    goes_on = command.iteration > state.iteration
    if goes_on and state.unjudged[command.index].attempt >= state.attempt:
        return False
    return trial.earlier.has(row)
