"""The validation of a committed checkpoint: what was asked for, and what came of it.

The manifest says that a checkpoint is to be validated and how, so that this becomes known together
with the checkpoint, whoever dies. The outcome follows in a file beside the manifest, which readers
add to the row: until it is there the validation is pending. ``docs/format.md`` describes the bytes.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from milepost.storage import codec, posix

if TYPE_CHECKING:
    from milepost.checkpoint.manifest import Manifest

log = logging.getLogger("milepost.checkpoint")

OUTCOME_NAME: Final = ".milepost-validation.json"

Status = Literal["VALIDATED", "VALIDATION_TIMEOUT", "VALIDATION_FAILED"]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """How a checkpoint is to be validated.

    Attributes:
        arguments: what the function is given besides the checkpoint, codec JSON.
        timeout_s: seconds that it may take; None without limit.
    """

    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    timeout_s: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a validation.

    Attributes:
        status: how it ended.
        metrics: what the function has returned, codec JSON; nothing unless it was ``VALIDATED``.
        reason: why it failed.
    """

    status: Status
    metrics: msgspec.Raw = msgspec.Raw(b"{}")
    reason: str = ""


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint: str
    outcome: Outcome


# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(_Stored).decode


def write(directory: str, manifest: Manifest, outcome: Outcome) -> None:
    """Put the outcome of a checkpoint's validation beside its manifest.

    *Atomicity*: readers see it whole or not at all.
    *Durability*: when this returns.
    *Concurrency*: only the holder of the experiment writes it.
    *After a crash*: it is there, or the validation is pending still.

    Raises:
        OSError: it could not be written.
    """
    stored = _Stored(checkpoint=manifest.id, outcome=outcome)
    path = os.path.join(directory, OUTCOME_NAME)
    posix.durable_replace(path, msgspec.json.encode(stored) + b"\n")


def read(directory: str, manifest: Manifest) -> Outcome | None:
    """Return the outcome of a checkpoint's validation; None if there is none (yet).

    One of another checkpoint, whose directory this one was made of, is none of this one.
    """
    path = os.path.join(directory, OUTCOME_NAME)
    try:
        with open(path, "rb") as file:
            stored = _DECODE(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s is damaged, so the checkpoint counts as not validated: %s", path, error)
        return None
    return stored.outcome if stored.checkpoint == manifest.id else None


def merged(row: msgspec.Raw, outcome: Outcome | None) -> msgspec.Raw:
    """Return a row with the metrics of its checkpoint's validation, which come after its own.

    Both are codec JSON; nothing is decoded to values of users.
    """
    if outcome is None or bytes(outcome.metrics) == b"{}":
        return row
    ours, theirs = msgspec.json.decode(row), msgspec.json.decode(outcome.metrics)
    if codec.TAG in ours or codec.TAG in theirs:  # some key is no plain string
        return msgspec.Raw(
            msgspec.json.encode({codec.TAG: "dict", "v": [*_items(ours), *_items(theirs)]})
        )
    return msgspec.Raw(msgspec.json.encode({**ours, **theirs}))


def _items(form: dict[str, Any]) -> list[Any]:
    return form["v"] if codec.TAG in form else [[key, value] for key, value in form.items()]
