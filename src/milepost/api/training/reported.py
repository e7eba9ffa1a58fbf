"""What is known of the checkpoints that training workers have reported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint


class ReportedCheckpointStatus(Enum):
    """How far a reported checkpoint has come. Mirrors Ray's class of the same name."""

    COMMITTED = "COMMITTED"
    PENDING_VALIDATION = "PENDING_VALIDATION"
    VALIDATED = "VALIDATED"
    VALIDATION_TIMEOUT = "VALIDATION_TIMEOUT"
    VALIDATION_FAILED = "VALIDATION_FAILED"


@dataclass(frozen=True)
class ReportedCheckpoint:
    """One checkpoint that workers reported. Mirrors ``ray.train.ReportedCheckpoint``.

    Attributes:
        checkpoint: the committed checkpoint.
        metrics: those that were reported with it, and those of its validation.
        status: how far it has come.
    """

    checkpoint: Checkpoint
    metrics: dict[str, Any]
    status: ReportedCheckpointStatus


class CheckpointUploadMode(Enum):
    """When the files of a reported checkpoint go to storage. Mirrors Ray's class.

    Attributes:
        ASYNC: after ``report`` has returned.
        SYNC: before ``report`` returns.
        NO_UPLOAD: never; they are in the run's directory already.
    """

    ASYNC = "ASYNC"
    SYNC = "SYNC"
    NO_UPLOAD = "NO_UPLOAD"

    def default_delete_local_checkpoint_after_upload(self) -> bool:
        """Whether the directory given to ``report`` is deleted once its files are in storage."""
        return self is CheckpointUploadMode.ASYNC


class CheckpointConsistencyMode(Enum):
    """What to wait for before reported checkpoints are listed. Mirrors Ray's class.

    Attributes:
        COMMITTED: until all that this worker has reported are committed.
        VALIDATED: until none of them waits for its validation either.
    """

    COMMITTED = "COMMITTED"
    VALIDATED = "VALIDATED"
