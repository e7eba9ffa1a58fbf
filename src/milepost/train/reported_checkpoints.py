"""Which checkpoints of a run there are, as its workers can ask."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from milepost.api import checks
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.training.reported import (
    CheckpointConsistencyMode,
    ReportedCheckpoint,
    ReportedCheckpointStatus,
)
from milepost.train.context import TrainContext, current

if TYPE_CHECKING:
    from milepost.tune.results.stored import Committed

#: How often it is looked for what is waited for, in seconds: at first, and after a while.
_LOOK_S, _LOOK_AT_MOST_S = 0.01, 0.5


def get_all_reported_checkpoints(
    consistency_mode: CheckpointConsistencyMode = CheckpointConsistencyMode.VALIDATED,
    timeout_s: float | None = None,
) -> list[ReportedCheckpoint]:
    """Return the run's kept checkpoints, the best one last.

    Mirrors ``ray.train.get_all_reported_checkpoints``. It waits until the checkpoint that this
    worker reported last is committed. Those of earlier runs of the same name are among them. When
    the run is being ended it does not wait for validations any more.

    Args:
        consistency_mode: what else to wait for: by default, until no validation is pending.
        timeout_s: how long to wait at most, in seconds; then those are returned that there are.
            None (the default) sets no limit.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
        TypeError: an argument has the wrong type.
        CheckpointFailedError: the checkpoint could not be committed.
    """
    from milepost.checkpoint.handle import Checkpoint
    from milepost.tune.results.lookup import AUTO_FIELDS
    from milepost.worker import session

    context = current("milepost.train.get_all_reported_checkpoints")
    if not isinstance(consistency_mode, CheckpointConsistencyMode):
        raise TypeError(
            "get_all_reported_checkpoints(consistency_mode=...) must be a "
            f"CheckpointConsistencyMode, got {consistency_mode!r}."
        )
    newest, deadline = -1, None
    if timeout_s is None:
        session.get_checkpoint()
    else:
        patience_s = checks.delay("get_all_reported_checkpoints()", "timeout_s", timeout_s)
        newest, deadline = session.current_index(), time.monotonic() + patience_s
    with session.waiting():
        found = _settled(context, newest, consistency_mode, deadline)
    return [
        ReportedCheckpoint(
            Checkpoint.from_directory(each.path),
            {key: value for key, value in each.row.items() if key not in AUTO_FIELDS},
            _status(each),
        )
        for each in found
    ]


def _settled(
    context: TrainContext,
    newest: int,
    mode: CheckpointConsistencyMode,
    deadline: float | None,
) -> list[Committed]:
    """The kept checkpoints when the newest is among them and all is validated, or time is up."""
    from milepost.worker import session

    look_s = _LOOK_S
    while True:
        found = _kept(context)
        is_there = newest < 0 or any(each.index >= newest for each in found)
        pending = any(each.is_pending for each in found)
        if is_there and (mode is CheckpointConsistencyMode.COMMITTED or not pending):
            return found
        if deadline is not None and time.monotonic() >= deadline:
            return found
        if is_there and session.is_ending():
            return found
        time.sleep(look_s)
        look_s = min(2 * look_s, _LOOK_AT_MOST_S) if is_there else _LOOK_S


def _kept(context: TrainContext) -> list[Committed]:
    from milepost.tune.results.stored import ranked

    keeping = context._keeping or CheckpointConfig()
    found = ranked(
        context.storage.trial_path,
        keeping.checkpoint_score_attribute,
        keeping.checkpoint_score_order,
    )
    # Those that are about to be deleted do not count any more.
    newest = max((each.index for each in found), default=-1)
    best = found[-keeping.num_to_keep :] if keeping.num_to_keep else found
    return [each for each in found if each in best or each.index == newest or each.is_pending]


def _status(found: Committed) -> ReportedCheckpointStatus:
    if found.outcome is not None:
        return ReportedCheckpointStatus(found.outcome.status)
    if found.task is not None:
        return ReportedCheckpointStatus.PENDING_VALIDATION
    return ReportedCheckpointStatus.COMMITTED
