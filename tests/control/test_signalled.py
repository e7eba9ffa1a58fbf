"""Ends of workers that a signal to the whole job may have caused."""

from __future__ import annotations

import math
import signal

import pytest
from machines import BOOM

from milepost.control import events
from milepost.control.signalled import Held, took, was_asked
from milepost.engine.protocol import Exited, StartFailed
from milepost.worker.protocol import Failed


def raised(kind: str) -> Failed:
    return Failed(b"", kind, "", "")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Exited("w", None, signal.SIGTERM), True),
        (Exited("w", None, signal.SIGINT), True),
        (Exited("w", None, signal.SIGHUP), True),
        (Exited("w", None, signal.SIGUSR1), True),
        (Exited("w", None, signal.SIGKILL), True),
        (Exited("w", None, signal.SIGSEGV), False),
        (Exited("w", None, signal.SIGBUS), False),
        (Exited("w", 1, None), False),
        (Exited("w", 143, None), False),
        (StartFailed("w", "no memory"), False),
        (StartFailed("w", "no engine", "the engine died"), True),
        (raised("KeyboardInterrupt"), True),
        (raised("SystemExit"), True),
        (raised("ValueError"), False),
    ],
)
def test_what_comes_from_outside(end: Exited | StartFailed | Failed, *, expected: bool) -> None:
    """Signals that end jobs, and what they make of user code; never a crash or an error."""
    assert took(BOOM, end).signalled is expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Exited("w", None, signal.SIGKILL, "the engine died"), True),
        (Exited("w", None, signal.SIGKILL), False),
        (StartFailed("w", "no engine", "the engine died"), True),
        (StartFailed("w", "no memory"), False),
        (raised("SystemExit"), False),
    ],
)
def test_what_the_engine_is_to_blame_for(
    end: Exited | StartFailed | Failed, *, expected: bool
) -> None:
    """Only what its own processes took along when they died, and nothing waits for a signal."""
    assert took(BOOM, end).engine_died is expected
    assert not (expected and was_asked(end))


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Exited("w", None, signal.SIGTERM), True),
        (Exited("w", None, signal.SIGKILL), False),
        (raised("SystemExit"), True),
        (raised("ValueError"), False),
    ],
)
def test_who_kills_asks_nobody(end: Exited | Failed, *, expected: bool) -> None:
    """Only after what jobs are asked to end with is it worth waiting; a killed trial goes on."""
    assert was_asked(end) is expected


def gone(worker: int) -> events.WorkerGone:
    return events.WorkerGone(at=0, worker_id=f"worker-{worker}", problem=BOOM)


def test_ends_are_held_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for the same time; all at once when it is clear what they mean."""
    held = Held()
    assert held.next_moment() is None
    for number, now in enumerate((10.0, 10.5, 12.0)):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        held.take(gone(number))
    assert held.next_moment() == 11
    assert held.due(10.9) == []
    assert held.due(11.2) == [gone(0)]
    assert held.next_moment() == 11.5
    assert held.due(math.inf) == [gone(1), gone(2)]
    assert held.next_moment() is None
