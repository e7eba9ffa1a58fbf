"""What is told about an exception of user code."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from milepost.errors import text_of
from milepost.worker.protocol import Failed, dump_error

# Exceptions of users may override how their attributes are read; this is Python's own way.
_TRACEBACK = BaseException.__dict__["__traceback__"]
_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]

FULL_TRACEBACKS_VARIABLE = "RAY_AIR_FULL_TRACEBACKS"
_OWN_FRAMES = tuple(
    os.path.dirname(os.path.abspath(__file__)).removesuffix("worker") + room + os.sep
    for room in ("worker", "engine", "train")
)


def failed(error: BaseException, *, abort: bool = False) -> Failed:
    """Describe an exception so that the driver can raise it, or at least show it.

    Args:
        error: what user code raised.
        abort: the trial must not be retried.
    """
    if issubclass(type(error), MemoryError):
        _let_go(error)
    try:
        pickled = dump_error(error)
    except Exception:  # noqa: BLE001 - the text still says everything
        pickled = b""
    return Failed(pickled, type(error).__name__, text_of(error), text(error), abort)


def _let_go(error: BaseException) -> None:
    """Free what user code held: without memory nothing could be told."""
    for raised in (error, _CAUSE.__get__(error), _CONTEXT.__get__(error)):
        if raised is not None:
            traceback.clear_frames(_TRACEBACK.__get__(raised))


def text(error: BaseException) -> str:
    """Format an exception with its traceback, without the frames of ours that called user code.

    ``RAY_AIR_FULL_TRACEBACKS=1`` keeps those.
    """
    if not keeps_own_frames():
        _TRACEBACK.__set__(error, _trimmed(_TRACEBACK.__get__(error)))
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - exceptions of users may raise whatever is read of them
        lines = traceback.format_tb(_TRACEBACK.__get__(error))
        lines.append(f"{type(error).__name__}: {text_of(error)}\n")
    return "".join(lines).encode(errors="backslashreplace").decode()


def keeps_own_frames() -> bool:
    """Whether the user wants to see frames of ours in tracebacks."""
    return os.environ.get(FULL_TRACEBACKS_VARIABLE, "0") == "1"


def is_own(filename: str) -> bool:
    """Whether code is ours that runs in workers."""
    return filename.startswith(_OWN_FRAMES)


def _trimmed(trace: TracebackType | None) -> TracebackType | None:
    """Cut leading frames of ours; all of them if user code is not in it at all."""
    inner = trace
    while inner is not None and is_own(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return inner or trace
