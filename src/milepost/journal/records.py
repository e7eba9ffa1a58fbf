"""The records of the journal: what happened to an experiment, in order.

Each is one line of JSON. ``docs/format.md`` describes them; a change here is a change of format
and needs a migration. Values of users (configs, rows) are encoded by
:mod:`milepost.storage.codec` and kept as raw JSON.
"""

from __future__ import annotations

import msgspec

from milepost.checkpoint.manifest import DirName
from milepost.checkpoint.validation import Status, Task

SCHEMA = 1


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Base of all records.

    ``at`` is seconds since the epoch, for people; order comes from the sequence number alone.
    """

    at: float


class Opened(Record, frozen=True, kw_only=True):
    """First record of each epoch: who holds the experiment, and what went before.

    Attributes:
        schema: version of the records.
        previous_epoch: epoch of the predecessor, or 0.
        previous_segment: number of its last file.
        previous_length: valid bytes of that file; later bytes there are ignored.
        previous_crc: CRC-32 of those bytes, 8 hex digits.
    """

    schema: int
    uuid: str
    epoch: int
    host: str
    pid: int
    writer: str
    previous_epoch: int = 0
    previous_segment: int = 0
    previous_length: int = 0
    previous_crc: str = ""


class Continued(Record, frozen=True, kw_only=True):
    """First record of each further file of an epoch; ``previous_*`` as in :class:`Opened`."""

    schema: int
    uuid: str
    epoch: int
    segment: int
    writer: str
    previous_epoch: int
    previous_segment: int
    previous_length: int
    previous_crc: str


class Planned(Record, frozen=True, kw_only=True):
    """How the run was set up: everything a restore needs besides the trainable.

    ``setup`` is the codec form of the configs; what JSON cannot hold is in ``objects/``.
    """

    setup: msgspec.Raw


class Created(Record, frozen=True, kw_only=True):
    """A trial exists.

    ``order`` is its position; ``evaluated`` the searched variables; ``resources`` its bundles;
    ``restarts`` the trial that it does once more from the beginning and that no longer counts.
    """

    trial: str
    name: str
    directory: str
    tag: str
    order: int
    config: msgspec.Raw
    evaluated: msgspec.Raw
    resources: msgspec.Raw
    restarts: str | None = None


class Launched(Record, frozen=True, kw_only=True):
    """A worker was asked to run the trial; ``checkpoint`` is what it starts from, or None."""

    trial: str
    attempt: int
    attempt_id: str
    first_index: int
    checkpoint: str | None = None


class Reported(Record, frozen=True, kw_only=True):
    """One handled report.

    ``row`` is the whole row without ``config``; ``checkpoint`` the captured index or None;
    ``action`` what was decided, ``by_condition`` whether by the run's stop condition alone.
    """

    trial: str
    attempt: int
    iteration: int
    row: msgspec.Raw
    action: str
    by_condition: bool = False
    checkpoint: int | None = None


class Saving(Record, frozen=True, kw_only=True):
    """A class trainable captured a checkpoint for its last row."""

    trial: str
    attempt: int
    index: int


class Committed(Record, frozen=True, kw_only=True):
    """A checkpoint is durable: its manifest is published.

    ``validation`` and ``dir_name`` are as in :class:`milepost.checkpoint.manifest.Manifest`.
    """

    trial: str
    attempt: int
    index: int
    iteration: int
    nbytes: int
    digest: str
    validation: Task | msgspec.UnsetType = msgspec.UNSET
    dir_name: DirName = msgspec.UNSET


class Validated(Record, frozen=True, kw_only=True):
    """The validation of a checkpoint is through.

    Fields as in :class:`milepost.checkpoint.validation.Outcome`.
    """

    trial: str
    index: int
    status: Status
    metrics: msgspec.Raw
    reason: str = ""


class Lost(Record, frozen=True, kw_only=True):
    """A captured checkpoint will never be committed."""

    trial: str
    attempt: int
    index: int
    reason: str


class Deleting(Record, frozen=True, kw_only=True):
    """A checkpoint may be deleted once this record is durable."""

    trial: str
    index: int
    reason: str


class Deleted(Record, frozen=True, kw_only=True):
    """A checkpoint's bytes are gone."""

    trial: str
    index: int


class Failure(Record, frozen=True, kw_only=True):
    """An attempt of a trial failed; ``retried`` tells whether it goes on."""

    trial: str
    attempt: int
    failures: int
    kind: str
    message: str
    traceback: str
    retried: bool
    error: str | None = None  # digest of the pickled exception in objects/


class Changed(Record, frozen=True, kw_only=True):
    """A trial has another status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.

    ``cut_by`` is "budget" or "stopper" when it ended only because that stopped the whole run.
    """

    trial: str
    status: str
    cut_by: str = ""


class Reconfigured(Record, frozen=True, kw_only=True):
    """A trial goes on with another config (a scheduler's decision)."""

    trial: str
    config: msgspec.Raw
    tag: str


class Exploited(Record, frozen=True, kw_only=True):
    """A trial goes on from a checkpoint of another one, or of its own, with another config.

    From here on it is PENDING. Nothing is copied: the checkpoint stays until the trial has
    committed one of its own.

    Attributes:
        donor: whose checkpoint it is.
        index, id, digest, iteration: of that checkpoint; ``digest`` is its manifest's.
        config: what the trial goes on with.
        first_index: its own checkpoints since then have at least this number.
        generation: how often this trial has done that, from 1; ``number`` is the same for all
            trials together.
        policy: the line of it in ``pbt_global.txt``, without the line end; empty for none.
    """

    trial: str
    donor: str
    index: int
    id: str
    digest: str
    iteration: int
    config: msgspec.Raw
    tag: str
    first_index: int
    generation: int
    number: int
    policy: str = ""


class Searched(Record, frozen=True, kw_only=True):
    """The searcher and scheduler states were saved, as a digest in objects/.

    ``took_s`` is how long the driver was busy with that since the record before. An empty
    ``state`` says that none counts any more.
    """

    state: str
    took_s: float = 0.0


class Closed(Record, frozen=True, kw_only=True):
    """The run has ended: "finished", "interrupted" or "failed"."""

    outcome: str


AnyRecord = (
    Opened
    | Continued
    | Planned
    | Created
    | Launched
    | Reported
    | Saving
    | Committed
    | Validated
    | Lost
    | Deleting
    | Deleted
    | Failure
    | Changed
    | Reconfigured
    | Exploited
    | Searched
    | Closed
)
