"""Messages between driver, workers and keeper: length-prefixed JSON over a Unix socket.

The driver creates and keeps the listening socket and hands it to each keeper it starts, so the
address outlives a keeper: a worker that lost its connection connects again and sends what is not
settled yet. All requests are idempotent.
"""

from __future__ import annotations

import msgspec

from milepost.checkpoint.manifest import DirName
from milepost.checkpoint.validation import Task
from milepost.keeper.intent import ExperimentRef


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the class name is the tag."""


# --- driver to keeper -----------------------------------------------------------------------


class Own(Message, frozen=True, kw_only=True):
    """The driver holds this experiment with this journal epoch: recover and serve its intents."""

    experiment: ExperimentRef
    epoch: int


class Drain(Message, frozen=True, kw_only=True):
    """Settle every capture of one attempt of a trial, also those never announced; then answer.

    ``attempt`` is None for all attempts.
    """

    uuid: str
    trial_id: str
    attempt: int | None


class Delete(Message, frozen=True, kw_only=True):
    """Delete a committed checkpoint that the journal says may go."""

    uuid: str
    trial_id: str
    index: int
    path: str


class Release(Message, frozen=True, kw_only=True):
    """The driver is done with this experiment: settle all of its captures, then answer."""

    uuid: str


# --- worker to keeper -----------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of a worker's connection: which attempt of which trial it captures for."""

    experiment: ExperimentRef
    trial_id: str
    trial_dir: str
    attempt: int
    attempt_id: str
    rank: int = 0


class Reserve(Message, frozen=True, kw_only=True):
    """Ask for room for a checkpoint's bytes in staging; answered when there is room."""

    index: int
    nbytes: int


class Guard(Message, frozen=True, kw_only=True):
    """Hold the leases that come with this message, on staged files that have other names.

    Attributes:
        base: the capture's path in staging, without suffix.
        paths: files of its tree; a descriptor comes with the message for each, in this order.
    """

    base: str
    paths: tuple[str, ...]


class Captured(Message, frozen=True, kw_only=True):
    """A capture is complete: commit it, with those of the other workers that belong to it.

    Attributes:
        base: its path in staging, without suffix.
        ranks: of the workers whose captures make up the checkpoint.
        dir_name: of its directory, as in the intent.
    """

    base: str
    index: int
    nbytes: int
    ranks: tuple[int, ...] = (0,)
    dir_name: DirName = msgspec.UNSET


class Expected(Message, frozen=True, kw_only=True):
    """Tell what becomes of a checkpoint to which other workers of the trial contribute."""

    index: int
    dir_name: DirName = msgspec.UNSET


class Abandoned(Message, frozen=True, kw_only=True):
    """A capture failed; give back its room and its leases."""

    base: str
    index: int


# --- keeper to worker -----------------------------------------------------------------------


class Queued(Message, frozen=True, kw_only=True):
    """There is no room yet; the answer to the request follows when there is."""

    staged_bytes: int


class Reserved(Message, frozen=True, kw_only=True):
    """There is room now, and ``free_bytes`` more; ``pid`` is the keeper's process."""

    waited_s: float
    pid: int
    free_bytes: int


class Settled(Message, frozen=True, kw_only=True):
    """A checkpoint that this worker captured or expects was committed, or failed with ``error``.

    ``free_bytes`` is the room in staging by then.
    """

    index: int
    path: str
    error: str | None = None
    free_bytes: int = 0


# --- keeper to driver -----------------------------------------------------------------------


class Committed(Message, frozen=True, kw_only=True):
    """A checkpoint is durable and visible.

    Attributes:
        path: the checkpoint directory, absolute.
        nbytes: bytes of all files; ``files`` their number.
        digest: xxh3-128 of the manifest's bytes, hex.
        row: the row of the manifest (codec JSON), for a driver that never saw the report.
        validation: how the manifest says that it is to be validated, if it is.
        recovered: the keeper found the capture in staging before its worker told of it.
        staged_bytes: bytes and number of checkpoints still waiting on this node.
    """

    uuid: str
    trial_id: str
    attempt: int
    index: int
    iteration: int
    path: str
    nbytes: int
    files: int
    digest: str
    row: msgspec.Raw
    validation: Task | None = None
    recovered: bool = False
    took_s: float = 0.0
    staged_bytes: int = 0
    staged_count: int = 0


class CommitFailed(Message, frozen=True, kw_only=True):
    """A captured checkpoint could not be committed.

    Nothing of it is visible, unless ``error`` says that only the last flush failed.

    Attributes:
        error: what failed, where, and what is still safe.
        disk_full: whether storage had no room, so that trying again at once is pointless.
    """

    uuid: str
    trial_id: str
    attempt: int
    index: int
    error: str
    disk_full: bool = False


class Drained(Message, frozen=True, kw_only=True):
    """All captures of that attempt are settled; their events came before this one."""

    uuid: str
    trial_id: str
    attempt: int | None
    highest_index: int


class Deleted(Message, frozen=True, kw_only=True):
    """Answer to :class:`Delete`."""

    uuid: str
    trial_id: str
    index: int
    outcome: str  # "deleted" | "gone" | "busy" | "failed"
    reason: str = ""


class Released(Message, frozen=True, kw_only=True):
    """Answer to :class:`Release`."""

    uuid: str


class Notice(Message, frozen=True, kw_only=True):
    """One line for the driver's log about something the keeper did by itself."""

    level: str  # "info" | "warning" | "error"
    text: str


KeeperEvent = Committed | CommitFailed | Drained | Deleted | Released | Notice
DriverRequest = Own | Drain | Delete | Release
WorkerRequest = Hello | Reserve | Guard | Captured | Expected | Abandoned
WorkerReply = Queued | Reserved | Settled

encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(KeeperEvent).decode
decode_reply = msgspec.json.Decoder(WorkerReply).decode
decode_driver_request = msgspec.json.Decoder(DriverRequest).decode
decode_worker_request = msgspec.json.Decoder(WorkerRequest).decode
decode_hello = msgspec.json.Decoder(Hello).decode
