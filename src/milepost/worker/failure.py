"""What is told about an exception of user code."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from milepost.errors import text_of
from milepost.worker.protocol import Failed, dump_error

# Exceptions of users may override how their attributes are read; this is Python's own way.
_TRACEBACK = BaseException.__dict__["__traceback__"]

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
        pickled = dump_error(error)
    except Exception:  # noqa: BLE001 - the text still says everything
        pickled = b""
    return Failed(pickled, type(error).__name__, text_of(error), text(error), abort)


def text(error: BaseException) -> str:
    """Format an exception with its traceback, without the frames of ours that called user code.

    ``RAY_AIR_FULL_TRACEBACKS=1`` keeps those.
    """
    if os.environ.get(FULL_TRACEBACKS_VARIABLE, "0") != "1":
        _TRACEBACK.__set__(error, _trimmed(_TRACEBACK.__get__(error)))
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - exceptions of users may raise whatever is read of them
        lines = traceback.format_tb(_TRACEBACK.__get__(error))
        lines.append(f"{type(error).__name__}: {text_of(error)}\n")
    return "".join(lines).encode(errors="backslashreplace").decode()


def _trimmed(trace: TracebackType | None) -> TracebackType | None:
    """Cut leading frames of ours; all of them if user code is not in it at all."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_OWN_FRAMES):
        inner = inner.tb_next
    return inner or trace
