"""What is told about an exception of user code."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from milepost.worker.protocol import Failed, dump, load

FULL_TRACEBACKS_VARIABLE = "RAY_AIR_FULL_TRACEBACKS"
_OWN_FRAMES = tuple(
    os.path.dirname(os.path.abspath(__file__)).removesuffix("worker") + room + os.sep
    for room in ("worker", "engine")
)


def failed(error: BaseException, *, abort: bool = False) -> Failed:
    """Describe an exception so that the driver can raise it, or at least show it.

    Args:
        error: what user code raised.
        abort: the trial must not be retried.
    """
    try:
        pickled = dump(error)
        load(pickled)  # many exceptions can be pickled but not unpickled
    except Exception:  # noqa: BLE001 - the text still says everything
        pickled = b""
    return Failed(pickled, type(error).__name__, _message(error), text(error), abort)


def text(error: BaseException) -> str:
    """Format an exception with its traceback, without the frames of ours that called user code.

    ``RAY_AIR_FULL_TRACEBACKS=1`` keeps those.
    """
    if os.environ.get(FULL_TRACEBACKS_VARIABLE, "0") != "1":
        error.__traceback__ = _trimmed(error.__traceback__)
    try:
        return "".join(traceback.format_exception(error))
    except Exception as problem:  # noqa: BLE001 - a __str__ of the user's may raise anything
        return (
            "".join(traceback.format_tb(error.__traceback__))
            + f"{type(error).__name__}: (its text cannot be shown: {problem!r})\n"
        )


def _trimmed(trace: TracebackType | None) -> TracebackType | None:
    """Cut leading frames of ours; all of them if user code is not in it at all."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_OWN_FRAMES):
        inner = inner.tb_next
    return inner or trace


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001
        return f"(its text cannot be shown: {problem!r})"
