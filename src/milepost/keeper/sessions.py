"""Ends the processes of workers, and lets training go first."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable

from milepost import process


def end_sessions(leaders: Iterable[int], timeout_s: float) -> None:
    """Kill the sessions of these processes, and wait until the leaders have ended.

    A process that does not lead its session is left alone.

    Args:
        leaders: process ids; those that have ended are ignored.
        timeout_s: how long to wait at most.
    """
    deadline = time.monotonic() + timeout_s
    for leader in leaders:
        try:
            pidfd = os.pidfd_open(leader)
        except ProcessLookupError:
            continue
        try:
            found = process.stat(leader)
            if found is None or found.session != leader:
                continue
            for pid in [*process.session_members(leader), leader]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(pidfd)


def yield_to_training() -> None:
    """Let the calling thread, when it wakes up, push no other off a processor.

    A lower priority would be wrong: the thread may hold Python's lock, for which the loop waits.
    """
    with contextlib.suppress(PermissionError):  # some sandboxes allow no such call
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
