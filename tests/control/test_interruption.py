"""What signals do to a run's loop; raised in this very process."""

# ruff: noqa: PT012 - what is expected is raised when the block is left

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

from milepost.control import interruption
from milepost.control.interruption import CLOSE_S, Interruption, grace_s

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Python's own handlers, whatever has started the tests; others' are put back."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def is_told(listener: Interruption) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


# --- what is noted ------------------------------------------------------------------------------


def test_nothing_has_come() -> None:
    """Until a signal comes there is nothing to read."""
    with Interruption() as listener:
        assert not is_told(listener)
        assert not listener.acknowledge()
        assert (listener.signal, listener.deadline, listener.urgent) == (None, None, False)


def test_control_c_is_noted_and_has_no_deadline() -> None:
    """The loop is woken; nothing is raised."""
    with Interruption() as listener:
        signal.raise_signal(signal.SIGINT)
        assert is_told(listener)
        assert listener.acknowledge()
        assert not is_told(listener)
        assert (listener.reason, listener.deadline_ms) == ("SIGINT", None)
        assert "Press Ctrl-C again" in listener.describe()


@pytest.mark.parametrize("grace", [0.0, 1.0, 30.0])
def test_sigusr1_sets_a_deadline(monkeypatch: Any, grace: float) -> None:
    """As MILEPOST_GRACE_S says."""
    monkeypatch.setenv("MILEPOST_GRACE_S", f"{grace:g}")
    with Interruption() as listener:
        before, before_ms = time.monotonic(), time.time() * 1000
        signal.raise_signal(signal.SIGUSR1)
        assert listener.deadline is not None
        assert before + grace <= listener.deadline <= time.monotonic() + grace
        assert listener.deadline_ms is not None
        assert before_ms + grace * 1000 - 2 <= listener.deadline_ms
        assert listener.deadline_ms <= (time.time() + grace) * 1000 + 2
        first = listener.deadline
        signal.raise_signal(signal.SIGUSR1)
        assert listener.deadline == first, "a second one means nothing new"


def test_a_second_sigterm_makes_the_deadline_now() -> None:
    """Each time the loop is told."""
    with pytest.raises(SystemExit) as ended, Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        assert listener.deadline is not None
        assert listener.deadline > time.monotonic() + 20
        listener.acknowledge()
        signal.raise_signal(signal.SIGTERM)
        assert listener.deadline <= time.monotonic()
        assert is_told(listener)
        assert not listener.urgent
    assert ended.value.code == 143


def test_sigterm_after_sigusr1_keeps_the_earlier_deadline() -> None:
    """The system's patience began with the first."""
    with pytest.raises(SystemExit), Interruption() as listener:
        signal.raise_signal(signal.SIGUSR1)
        first = listener.deadline
        signal.raise_signal(signal.SIGTERM)
        assert listener.deadline == first
        assert listener.reason == "SIGTERM"


def test_a_second_control_c_is_urgent() -> None:
    """It is for the loop to raise; on leaving it is raised at the latest."""
    with pytest.raises(KeyboardInterrupt), Interruption() as listener:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert listener.urgent


# --- where something is raised ------------------------------------------------------------------


def test_a_third_control_c_is_raised_at_once() -> None:
    """The loop has not got its turn."""
    with Interruption() as listener:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        listener.urgent = False  # so that leaving raises nothing


def test_code_that_does_not_return_is_interrupted(monkeypatch: Any) -> None:
    """Though nobody presses anything again."""
    monkeypatch.setattr(interruption, "_HURRY_S", 0.01)
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        threading.Event().wait(60)


def test_code_that_does_not_return_by_the_deadline_is_interrupted(monkeypatch: Any) -> None:
    """SIGTERM has its effect in any case."""
    monkeypatch.setattr(interruption, "CLOSE_S", 0.01)
    monkeypatch.setenv("MILEPOST_GRACE_S", "0")
    with pytest.raises(SystemExit) as ended, Interruption():
        signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(60)
    assert ended.value.code == 143


def carry_out(listener: Interruption, call: Callable[[], None]) -> None:
    """As a run does."""
    listener.within = carry_out.__code__
    call()


class Blocks:
    """As a callback of users."""

    def on_trial_result(self) -> None:
        threading.Event().wait(60)


class AlsoBlocks(Blocks):
    """Inherits what does not return."""


def test_what_does_not_return_is_named(monkeypatch: Any) -> None:
    """Right after the deadline; the class that users know, not where it has its method from."""
    monkeypatch.setattr(interruption, "_LOOK_S", 0.01)
    monkeypatch.setenv("MILEPOST_GRACE_S", "0")
    with pytest.raises(SystemExit), Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        try:
            carry_out(listener, AlsoBlocks().on_trial_result)
        finally:
            assert listener.urgent
            assert is_told(listener)
            said = listener.describe_cut()
    assert said.startswith("SIGTERM: AlsoBlocks.on_trial_result (test_interruption.py, line ")
    assert "by the deadline (MILEPOST_GRACE_S)" in said


def test_what_catches_that_is_interrupted_again(monkeypatch: Any) -> None:
    """Users may catch everything."""
    monkeypatch.setattr(interruption, "_LOOK_S", 0.01)
    monkeypatch.setenv("MILEPOST_GRACE_S", "0")
    caught = []

    def stubborn() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait(60)
        caught.append(True)
        threading.Event().wait(60)

    with pytest.raises(SystemExit), Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        carry_out(listener, stubborn)
    assert caught == [True]


def test_work_of_the_run_itself_goes_on_past_the_deadline(monkeypatch: Any) -> None:
    """Calls that return do, too: only one that lasts from one look to the next is interrupted."""
    monkeypatch.setattr(interruption, "_LOOK_S", 0.01)
    monkeypatch.setenv("MILEPOST_GRACE_S", "0")
    looks = []

    def look(listener: Any, frame: Any) -> None:
        original(listener, frame)
        looks.append(frame)

    original = Interruption._look
    monkeypatch.setattr(Interruption, "_look", look)

    def work() -> None:
        while len(looks) < 5:
            select.select([], [], [], 0.001)

    named = {**globals(), "__name__": "milepost.x"}
    own = FunctionType(work.__code__, named, closure=work.__closure__)
    with pytest.raises(SystemExit), Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        carry_out(listener, own)
        assert not listener.urgent
        assert not listener.cut_off


def test_closing_is_not_interrupted_but_where_it_may_be() -> None:
    """Otherwise something would stay open."""
    with Interruption() as listener:
        listener.close_down()
        for _ in range(4):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), listener.breakable():
            signal.raise_signal(signal.SIGINT)
        listener.urgent = False


@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_breaks_no_wait(first: signal.Signals) -> None:
    """A run that is being closed is closed."""
    with contextlib.suppress(SystemExit), Interruption() as listener, listener.breakable():
        signal.raise_signal(first)
        assert listener.signal == first


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_the_second_one_does(again: signal.Signals) -> None:
    """Ctrl-C after anything, and SIGTERM after SIGTERM."""
    with contextlib.suppress(SystemExit), Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), listener.breakable():
            signal.raise_signal(again)
        assert listener.urgent


# --- how long closing may take ------------------------------------------------------------------


def test_patience() -> None:
    """All the time there is; after a deadline some seconds, in a hurry one."""
    with contextlib.suppress(SystemExit), Interruption() as listener:
        assert listener.patience_s(60) == 60
        signal.raise_signal(signal.SIGINT)
        assert listener.patience_s(60) == 60
        signal.raise_signal(signal.SIGTERM)
        assert 20 < listener.patience_s(60) <= 30 + CLOSE_S
        assert listener.patience_s(2) == 2
        signal.raise_signal(signal.SIGTERM)
        assert 1 <= listener.patience_s(60) <= CLOSE_S
        signal.raise_signal(signal.SIGINT)
        assert listener.patience_s(60) == 1


# --- handlers -----------------------------------------------------------------------------------


def test_handlers_are_put_back() -> None:
    """Those of the script, of Python, and the system's."""

    def own(signum: int, frame: Any) -> None:
        raise AssertionError

    signal.signal(signal.SIGUSR1, own)
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with Interruption():
        assert [signal.getsignal(signum) for signum in SIGNALS] != before
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_ignored_signals_stay_ignored() -> None:
    """As nohup and shells want them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        assert not is_told(listener)


def test_control_c_can_be_left_alone(monkeypatch: Any) -> None:
    """The other signals are listened to."""
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")
    with Interruption() as listener:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not is_told(listener)
        signal.raise_signal(signal.SIGUSR1)
        assert is_told(listener)


def test_a_handler_of_the_scripts_own_is_called_in_the_end() -> None:
    """And decides what happens: nothing is raised."""
    called: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: called.append(listener.fileno() < 0))
    with Interruption() as listener:
        signal.raise_signal(signal.SIGTERM)
        assert called == []
    assert called == [True], "once, when the run is over"


def test_an_error_is_not_hidden_by_a_signal() -> None:
    """What ended the run is what the user has to see."""
    with pytest.raises(ValueError, match="disk"), Interruption():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("disk")


def test_a_fork_is_not_in_the_run() -> None:
    """In a child of the driver signals do what they would do without a run."""
    with Interruption() as listener:
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        assert not is_told(listener)


def test_other_threads_have_no_signals() -> None:
    """A run there never hears of one, and changes no handler."""
    found: list[Any] = []

    def run() -> None:
        with Interruption() as listener:
            found.append([signal.getsignal(signum) for signum in SIGNALS])
            found.append(is_told(listener))

    before = [signal.getsignal(signum) for signum in SIGNALS]
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before, False]


def leaves_nothing(act: Callable[[], None]) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    act()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_nothing_is_left() -> None:
    """No thread that waits for the deadline, no descriptor."""

    def act() -> None:
        with Interruption():
            signal.raise_signal(signal.SIGUSR1)

    leaves_nothing(act)


# --- the setting --------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "seconds"), [("", 30), ("0", 0), ("1.5", 1.5), ("120", 120)])
def test_grace(monkeypatch: Any, value: str, seconds: float) -> None:
    """Seconds; 30 when it is not set."""
    monkeypatch.setenv("MILEPOST_GRACE_S", value)
    assert grace_s() == seconds


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "1 s"])
def test_what_is_no_grace(monkeypatch: Any, value: str) -> None:
    """An error with the value and what it is for."""
    monkeypatch.setenv("MILEPOST_GRACE_S", value)
    with pytest.raises(ValueError, match="is not a number of seconds, 0 or more"):
        Interruption()
