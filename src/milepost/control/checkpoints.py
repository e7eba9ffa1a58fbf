"""Checkpoints as the machine knows them: captured, committed, and offered to other trials.

Rows are opaque: encoded JSON that is carried along.
"""

from __future__ import annotations

import msgspec

from milepost.checkpoint.validation import Task
from milepost.control.resources import Grant


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A committed checkpoint.

    Attributes:
        index: its number within the trial.
        path: its directory, absolute.
        iteration: ``training_iteration`` of its row.
        row: the whole result row without config, encoded; with the metrics of its validation.
        score: what the row has under the metric that ranks checkpoints.
        digest: of its manifest.
    """

    index: int
    path: str
    iteration: int
    row: msgspec.Raw
    score: object = None
    digest: str = ""


class Capture(msgspec.Struct, frozen=True):
    """A checkpoint that was captured and is not yet committed."""

    iteration: int
    row: msgspec.Raw
    score: object


class Pending(msgspec.Struct, frozen=True):
    """A committed checkpoint whose validation is not through."""

    trial_id: str
    index: int
    task: Task


class Validator(msgspec.Struct):
    """The process that validates a checkpoint.

    Attributes:
        of: what it validates.
        grant: what it holds until it has exited.
        over: the outcome is known, or nobody waits for it.
    """

    worker_id: str
    of: Pending
    grant: Grant
    over: bool = False


class Offer(msgspec.Struct, kw_only=True, eq=False):
    """A checkpoint that other trials may go on from; as long as anybody holds it, it stays.

    Attributes:
        trial_id: whose it is.
        iteration: of its row; None while that is being judged.
        index: its number; None until it is captured.
        checkpoint: it, once it is committed.
        refused: there is none, and that is on record.
        holders: how many refer to it.
    """

    trial_id: str
    iteration: int | None = None
    index: int | None = None
    checkpoint: Checkpoint | None = None
    refused: bool = False
    holders: int = 0


class Adoption(msgspec.Struct, kw_only=True, eq=False):
    """What a trial is going to go on from in place of its own checkpoint.

    Attributes:
        offer: of another trial.
        config, tag: what it goes on with.
        policy: the line that the scheduler's log gets, if any.
        asked: the checkpoint is being verified.
        pauses: the trial is to stay paused after that.
    """

    offer: Offer
    config: msgspec.Raw
    tag: str
    policy: str = ""
    asked: bool = False
    pauses: bool = False
