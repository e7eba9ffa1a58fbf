"""Where a worker's threads are, told on standard error when it crashes or is asked.

Both work while the interpreter is stuck: they are signal handlers in C that need no lock.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import Final

#: Asks a worker for its stacks. A real-time signal, because libraries use the two of users.
STACK_SIGNAL: Final = signal.SIGRTMAX - 1

_stderr: int | None = None


def tell_on_crash() -> None:
    """Have a crash (SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL) tell where it happened.

    Call it when standard error is what it will be; what user code does to it later is no matter.
    """
    faulthandler.enable(_descriptor(), all_threads=True)


def tell_when_asked() -> None:
    """Have :data:`STACK_SIGNAL` tell where all threads are; the process goes on."""
    faulthandler.register(STACK_SIGNAL, _descriptor(), all_threads=True)


def _descriptor() -> int:
    global _stderr
    if _stderr is None:
        _stderr = os.dup(2)
    return _stderr
