"""Which code of users runs in the driver, seen from the handler of a signal."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Final

# What a run itself uses: it may take its time, and must not be taken for code of users.
_OURS: Final = frozenset({"milepost", "cloudpickle", "msgspec", "numpy", "psutil", "rich"})


def running(frame: FrameType | None, within: CodeType | None) -> FrameType | None:
    """The call of users' code that the run has made and that has not returned.

    Args:
        frame: where the thread is.
        within: of the function that carries out the run; what has called it is not looked at.

    Returns:
        The outermost frame of such code, or None where the run is busy with its own work.
    """
    found = None
    while frame is not None:
        if frame.f_code is within:
            return found
        if not _is_ours(frame):
            found = frame
        frame = frame.f_back
    return None


def describe(frame: FrameType) -> str:
    """A call as people know it: ``Callback.on_trial_result (script.py, line 12)``."""
    code = frame.f_code
    name = code.co_qualname
    if "." in name and code.co_argcount:
        owner = frame.f_locals.get(code.co_varnames[0])
        if hasattr(type(owner), code.co_name):  # of a subclass, its name says more
            name = f"{type(owner).__name__}.{code.co_name}"
    return f"{name} ({os.path.basename(code.co_filename)}, line {frame.f_lineno})"


def _is_ours(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in _OURS or package in sys.stdlib_module_names
