"""Make a forked process look like one that was started afresh."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import random
import signal
import sys
import weakref
from typing import Any

from milepost.worker.stacks import STACK_SIGNAL

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_OOM_SCORE = 300


def _prctl(option: int, value: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def die_with_parent(signum: int, parent: int) -> None:
    """Have the kernel send this process a signal when its parent (the thread of it) ends.

    Ends this process at once if the parent is gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum))
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of orphans among its descendants, so that none can hide."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def volunteer_for_oom_killer() -> None:
    """Have the kernel kill this process before those that must not die for its memory."""
    path = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError):  # not allowed in some containers
        with open(path) as file:
            score = int(file.read())
        with open(path, "w") as file:
            file.write(str(min(1000, score + _OOM_SCORE)))


def set_name(name: str) -> None:
    """Set the name that process lists show; it is cut after 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def reset_signals() -> None:
    """Give every signal the disposition that it has in a new Python process; unblock all.

    Only :data:`~milepost.worker.stacks.STACK_SIGNAL` is ignored: it may come before anybody can
    answer.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if signum in (signal.SIGKILL, signal.SIGSTOP):
            continue
        if signum in (signal.SIGPIPE, signal.SIGXFSZ, STACK_SIGNAL):
            wanted: Any = signal.SIG_IGN
        elif signum == signal.SIGINT:
            wanted = signal.default_int_handler
        else:
            wanted = signal.SIG_DFL
        if signal.getsignal(signum) is not None and signal.getsignal(signum) != wanted:
            signal.signal(signum, wanted)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def forget_exit_handlers() -> None:
    """Drop exit handlers and finalizers of the parent: what they would remove is still in use.

    Those of the standard library that new handlers rely on are kept.
    """
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False
    atexit._clear()
    atexit.register(logging.shutdown)
    exit_function = getattr(weakref.finalize, "_exitfunc", None)
    if exit_function is not None:
        atexit.register(exit_function)
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        multiprocessing._finalizer_registry.clear()
        atexit.register(multiprocessing._exit_function)


def reseed(seed: int) -> None:
    """Seed the global random generators of those libraries that are loaded.

    Otherwise all forked processes would draw the same numbers.
    """
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")  # numpy alone does not load it
    if numpy_random is not None:
        numpy_random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed % 2**64)


def run_exit_handlers() -> None:
    """Run what is registered with ``atexit`` and flush the standard streams, as at a normal end."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or replaced by user code
            continue
    ctypes.CDLL(None).fflush(None)  # what C code has printed
