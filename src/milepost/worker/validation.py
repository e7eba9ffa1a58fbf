"""Validations of checkpoints in workers: one asks for it, another one carries it out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from milepost.api import fields
from milepost.errors import CodecError
from milepost.worker import metrics as checks
from milepost.worker.failure import failed
from milepost.worker.protocol import Failed, Validate, Validated, load

if TYPE_CHECKING:
    from milepost.checkpoint.validation import Task


#: What rows have besides metrics.
_OURS = {
    *fields.AUTO_RESULT_KEYS,
    fields.DONE,
    fields.EXPERIMENT_TAG,
    fields.SHOULD_CHECKPOINT,
    fields.TRIAL_ID,
}


class Validation(NamedTuple):
    """What is captured with a checkpoint that is to be validated.

    Attributes:
        task: how.
        objects: pickled values that it refers to, by digest.
    """

    task: Task
    objects: Mapping[str, bytes]


def validation(arguments: dict[str, Any], timeout_s: float | None) -> Validation:
    """Return what is captured with a checkpoint that is to be validated.

    Args:
        arguments: what the function is given besides the checkpoint.
        timeout_s: seconds that it may take; None without limit.

    Raises:
        TypeError: an argument cannot be pickled.
    """
    import msgspec

    from milepost.checkpoint.validation import Task
    from milepost.journal.objects import digest
    from milepost.storage import codec

    objects: dict[str, bytes] = {}

    def put(data: bytes) -> str:
        name = digest(data)
        objects[name] = data
        return name

    try:
        encoded = codec.encode(arguments, put)
    except CodecError as error:
        raise TypeError(
            f"the arguments of the validation cannot be sent to its process: {error}. Pass plain "
            "values in fn_kwargs, and make the rest of them in the function; nothing was reported."
        ) from error
    return Validation(Task(arguments=msgspec.Raw(encoded), timeout_s=timeout_s), objects)


def validate(message: Validate, tell_started: Callable[[], None]) -> Validated | Failed:
    """Carry a validation out, whatever user code does.

    Args:
        message: what is to be validated, and how.
        tell_started: is called when user code is about to run.
    """
    import msgspec

    from milepost.checkpoint.handle import Checkpoint
    from milepost.journal.objects import Objects
    from milepost.storage import codec

    # Ctrl-C is for the driver, which cancels this so that it is done again.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    objects = Objects(message.experiment_path)
    try:
        function = load(objects.get(message.function))
        arguments = codec.decode(msgspec.Raw(message.arguments), objects.get)
        tell_started()
        found = function(Checkpoint.from_directory(message.checkpoint), **arguments)
        _require_metrics(found)
        return Validated(codec.encode(found, objects.put))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises, it has failed
        return failed(error)


def _require_metrics(found: Any) -> None:
    """Refuse what cannot be added to the row of a checkpoint.

    Raises:
        TypeError: it is no dict by name.
        ValueError: a tensor is in it, or a field that we fill in.
    """
    if not isinstance(found, dict) or not all(type(key) is str for key in found):
        raise TypeError(
            "the validation function must return a dict of metrics by name, such as "
            f"{{'accuracy': 0.9}}, got {found!r} ({type(found).__name__})."
        )
    checks.refuse_tensors(found, "what the validation function returned: metric")
    ours = sorted(found.keys() & _OURS)
    if ours:
        raise ValueError(
            f"the validation function returned {ours[0]!r}, which every row has already. Give the "
            "metric another name."
        )
