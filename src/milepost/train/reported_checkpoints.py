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
    from milepost.control.outcome import Kept

#: How often it is looked for the commit that is waited for, in seconds.
_LOOK_S = 0.01


def get_all_reported_checkpoints(
    consistency_mode: CheckpointConsistencyMode = CheckpointConsistencyMode.VALIDATED,
    timeout_s: float | None = None,
) -> list[ReportedCheckpoint]:
    """Return the run's kept checkpoints, the best one last.

    Mirrors ``ray.train.get_all_reported_checkpoints``. It waits until the checkpoint that this
    worker reported last is committed. Those of earlier runs of the same name are among them.

    Args:
        consistency_mode: what to wait for; nothing is validated, so that both are the same.
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
    if timeout_s is None:
        session.get_checkpoint()
        found = _kept(context)
    else:
        patience_s = checks.delay("get_all_reported_checkpoints()", "timeout_s", timeout_s)
        found = _kept_when(context, session.current_index(), time.monotonic() + patience_s)
    return [
        ReportedCheckpoint(
            Checkpoint.from_directory(path),
            {key: value for key, value in row.items() if key not in AUTO_FIELDS},
            ReportedCheckpointStatus.COMMITTED,
        )
        for _, path, row in found
    ]


def _kept_when(context: TrainContext, newest: int, deadline: float) -> list[Kept]:
    """The kept checkpoints when the newest is among them, or when the time is up."""
    while True:
        found = _kept(context)
        if any(index >= newest for index, _, _ in found) or newest < 0:
            return found
        if time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_S)


def _kept(context: TrainContext) -> list[Kept]:
    from milepost.tune.results.stored import ranked

    keeping = context._keeping or CheckpointConfig()
    found = ranked(
        context.storage.trial_path,
        keeping.checkpoint_score_attribute,
        keeping.checkpoint_score_order,
    )
    # Those that are about to be deleted do not count any more.
    newest = max((index for index, _, _ in found), default=-1)
    best = found[-keeping.num_to_keep :] if keeping.num_to_keep else found
    return [kept for kept in found if kept in best or kept[0] == newest]
