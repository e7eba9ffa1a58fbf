"""Two drivers and one experiment: one runs, and one that was replaced does nothing any more."""

from __future__ import annotations

import os
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from milepost.errors import JournalError, LeaseLostError
from milepost.journal import lease as leases
from milepost.journal import replay
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.process import boot_id


class Child:
    """A forked process that does one step after the other, each when it is told to."""

    def __init__(self, script: Callable[[Callable[[str], None]], None]) -> None:
        told, self._tell = os.pipe()
        self._hear, said = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._tell)
                os.close(self._hear)

                def step(text: str) -> None:
                    os.write(said, text.replace("\n", " ").encode() + b"\n")
                    os.read(told, 1)

                step("ready")
                script(step)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(told)
        os.close(said)
        self._buffer = b""
        assert self.hear() == "ready"

    def go(self) -> None:
        """Let it take its next step."""
        os.write(self._tell, b"x")

    def hear(self) -> str:
        """What it says after its step."""
        while b"\n" not in self._buffer:
            data = os.read(self._hear, 4096)
            assert data, "the child has died"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._tell)
            os.close(self._hear)
            self.pid = 0


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Starts children and ends them."""
    started: list[Child] = []

    def start(script: Callable[[Callable[[str], None]], None]) -> Child:
        started.append(Child(script))
        return started[-1]

    yield start
    for each in started:
        each.end()


def takes(experiment: Experiment, make: Any, **options: Any) -> Callable[..., None]:
    """A driver: it opens the journal, and then appends as often as it is told to."""

    def script(step: Callable[[str], None]) -> None:
        try:
            journal = Journal.open(experiment, **options)
            step("open")
            while True:
                journal.append(make.changed(status="RUNNING"))
                journal.sync()
                step("synced")
        except JournalError as error:
            step(f"{type(error).__name__}: {error}")

    return script


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a file system that has no locks, so that heartbeats decide."""
    monkeypatch.setattr(leases, "_flock", lambda fd, path: False)


def begin(experiment: Experiment, make: Any) -> None:
    journal = Journal.open(experiment)
    journal.append(make.created())
    journal.close("interrupted")


@pytest.mark.parametrize("repair", [False, True])
def test_of_two_that_start_at_once_exactly_one_runs(
    repair: bool, experiment: Experiment, make: Any, child: Callable[..., Child]
) -> None:
    """Fifty times over; the other one is told which process holds the experiment."""
    begin(experiment, make)
    for _ in range(25):
        both = [child(takes(experiment, make, repair=repair)) for _ in range(2)]
        for each in both:
            each.go()
        said = {each.pid: each.hear() for each in both}
        (winner,) = (pid for pid, text in said.items() if text == "open")
        (lost,) = (text for text in said.values() if text != "open")
        assert re.match(rf"LeaseLostError: .* is in use by process {winner} on host ", lost)
        for each in both:
            each.end()
    assert replay.image(experiment.path).epoch == 26


def test_without_locks_one_of_two_goes_on(
    experiment: Experiment,
    make: Any,
    child: Callable[..., Child],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both may think that they have it; the epoch decides which one can make records durable."""
    without_locks(monkeypatch)
    monkeypatch.setattr(leases, "SILENCE_S", 0.1)  # shorter than the holder's heartbeat
    monkeypatch.setattr(leases, "_LOOK_EVERY_S", 0.02)
    begin(experiment, make)
    for _ in range(10):
        both = [child(takes(experiment, make)) for _ in range(2)]
        for each in both:
            each.go()
        opened = [each for each in both if each.hear() == "open"]
        assert opened
        for each in opened:
            each.go()
        heard = [each.hear() for each in opened]
        assert heard.count("synced") == 1
        assert all("LeaseLostError" in text for text in heard if text != "synced")
        for each in both:
            each.end()


def test_a_stopped_driver_that_goes_on_after_it_was_replaced(
    experiment: Experiment,
    make: Any,
    child: Callable[..., Child],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that it writes afterwards counts, and it is told before it acts on anything."""
    without_locks(monkeypatch)
    begin(experiment, make)
    stopped = child(takes(experiment, make))
    stopped.go()
    assert stopped.hear() == "open"
    stopped.go()
    assert stopped.hear() == "synced"
    os.kill(stopped.pid, signal.SIGSTOP)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    lease = leases.acquire(experiment.path, clock=lambda: now[0], sleep=sleep, local=False)
    assert now[0] >= leases.SILENCE_S
    journal = Journal.open(experiment, lease=lease)
    before = replay.image(experiment.path)
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.go()
    text = stopped.hear()
    assert text.startswith("LeaseLostError: ")
    assert f"was taken over by process {os.getpid()} on host " in text
    assert replay.image(experiment.path) == before
    journal.append(make.changed())
    journal.close("finished")
    assert replay.image(experiment.path).trials["t1"].status == "TERMINATED"


def test_the_holder_is_named_even_right_after_it_took_the_lock(
    experiment: Experiment, make: Any, child: Callable[..., Child]
) -> None:
    """Not the one before it, whose name is still in the file for a moment."""
    begin(experiment, make)
    before = leases.holder_of(experiment.path)
    assert before is not None
    assert before.released

    def hold(step: Callable[[str], None]) -> None:
        fd = leases.open_lock(os.path.join(experiment.home, leases.LOCK_NAME))
        leases._flock(fd, experiment.path)
        step("locked")
        leases._write(fd, leases.Holder(host="here", boot=boot_id(), pid=os.getpid(), since=0))
        step("named")

    holder = child(hold)
    holder.go()
    assert holder.hear() == "locked"
    holder.go()
    with pytest.raises(LeaseLostError, match=f"process {holder.pid} on host here"):
        leases.acquire(experiment.path)
