"""One driver at a time: a dead holder is replaced, a live or stopped one never."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from milepost.errors import JournalError, LeaseLostError
from milepost.journal import lease as leases
from milepost.journal.experiment import Experiment
from milepost.journal.lease import Holder
from milepost.journal.log import Journal
from milepost.journal.mounts import file_system, is_local
from milepost.testing import FakeClock

HOLD = """
import os, sys
from milepost.journal import experiment
from milepost.journal.log import Journal

journal = Journal.open(experiment.open(sys.argv[1]))
if "fork" in sys.argv:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"x")
        sys.stdin.read()
        os._exit(0)
    os.read(reading, 1)
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(experiment: Experiment) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that hold the experiment, and ends them."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, experiment.path, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def write_holder(experiment: Experiment, **changes: object) -> Holder:
    """Put a holder on another machine into the lock file."""
    holder = Holder(host="elsewhere", boot="other-boot", pid=4711, since=1.7e9)
    holder = msgspec.structs.replace(holder, **changes)
    path = os.path.join(experiment.home, leases.LOCK_NAME)
    with open(path, "wb") as file:
        file.write(msgspec.json.encode(holder).ljust(511) + b"\n")
    return holder


def test_a_second_driver_is_told_who_holds_it(
    experiment: Experiment, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """The error names host, process and time; the holder is not disturbed."""
    holder = hold()
    expected = rf"in use by process {holder.pid} on host .+ since 20\d\d-"
    with pytest.raises(LeaseLostError, match=expected):
        Journal.open(experiment)
    with pytest.raises(LeaseLostError, match=expected):
        leases.acquire(experiment.path)


def test_two_journals_of_one_process_exclude_each_other(experiment: Experiment) -> None:
    """The lock holds within a process too."""
    journal = Journal.open(experiment)
    with pytest.raises(LeaseLostError, match=f"process {os.getpid()}"):
        Journal.open(experiment)
    journal.close("finished")
    Journal.open(experiment).close("finished")


def test_a_stopped_holder_is_never_replaced(
    experiment: Experiment, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """SIGSTOP does not end a lease, however long it lasts."""
    holder = hold()
    holder.send_signal(signal.SIGSTOP)
    time = FakeClock()
    with pytest.raises(LeaseLostError):
        leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep)
    holder.send_signal(signal.SIGCONT)


def test_a_killed_holder_is_replaced_at_once(
    experiment: Experiment, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """Nothing is waited for when the holder died on this machine."""
    holder = hold()
    holder.kill()
    holder.wait()
    time = FakeClock()
    lease = leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep)
    assert time.monotonic() == 1000.0
    lease.release()


def test_a_forked_child_of_a_killed_holder_does_not_hold_it(
    experiment: Experiment, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """A process that user code forked off the driver must not keep the experiment locked."""
    holder = hold("fork")
    holder.kill()
    holder.wait()
    leases.acquire(experiment.path).release()


def test_a_silent_holder_elsewhere_is_replaced_after_thirty_seconds(
    experiment: Experiment,
) -> None:
    """On shared storage the counter must stand still on our own clock."""
    write_holder(experiment)
    time = FakeClock()
    lease = leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep, local=False)
    assert time.monotonic() - 1000.0 == pytest.approx(leases.SILENCE_S, abs=1.0)
    assert time.monotonic() - 1000.0 >= leases.SILENCE_S
    assert lease.holder.pid == os.getpid()
    assert leases.holder_of(experiment.path) == lease.holder
    lease.release()


def test_a_beating_holder_elsewhere_is_left_alone(experiment: Experiment) -> None:
    """One step of the counter within the time is enough, even the last moment."""
    write_holder(experiment)
    time = FakeClock(on_sleep=lambda now: now < 1029 or write_holder(experiment, beat=1))
    with pytest.raises(LeaseLostError, match="process 4711 on host elsewhere"):
        leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep, local=False)


def test_a_holder_elsewhere_that_ends_meanwhile_is_replaced(experiment: Experiment) -> None:
    """A lease that was given back needs no further waiting."""
    write_holder(experiment)
    time = FakeClock(on_sleep=lambda now: now < 1003 or write_holder(experiment, released=True))
    leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep, local=False).release()
    assert time.monotonic() == 1003.0


def test_who_looks_whether_it_is_held_disturbs_nobody(experiment: Experiment) -> None:
    """A live holder is seen, one that ended or whose process id is another's by now is not."""
    path = experiment.path
    assert not leases.is_held(path)
    assert not leases.is_held(path + "-nowhere")
    ours = leases.acquire(path)
    assert leases.is_held(path)
    ours.release()
    assert not leases.is_held(path)
    with subprocess.Popen(["sleep", "600"]) as child:
        earlier = msgspec.structs.replace(ours.holder, pid=child.pid, since=time.time() - 600)
        Path(path, ".milepost", "lock").write_bytes(msgspec.json.encode(earlier))
        assert not leases.is_held(path)
        now = msgspec.structs.replace(earlier, since=time.time())
        Path(path, ".milepost", "lock").write_bytes(msgspec.json.encode(now))
        assert leases.is_held(path)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not leases.is_held(path), "it was killed; that nobody has waited for it says nothing"


def test_a_copy_of_a_held_experiment_is_free(
    experiment: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is said to hold it, or to be gone from it."""
    ours = leases.acquire(experiment.path)
    copy = str(shutil.copytree(experiment.path, tmp_path / "copy"))
    assert leases.is_held(experiment.path)
    assert not leases.is_held(copy)
    leases.acquire(copy, local=False).release()
    assert "taking over" not in caplog.text
    assert "watching" not in caplog.text
    ours.release()


@pytest.mark.parametrize("text", [b"", b"{", b"\0" * 512])
def test_a_torn_lock_file_is_no_holder(experiment: Experiment, text: bytes) -> None:
    """What a power loss left of the lock file says nothing; the lock decides."""
    path = os.path.join(experiment.home, leases.LOCK_NAME)
    with open(path, "wb") as file:
        file.write(text)
    time = FakeClock()
    leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep, local=False).release()
    assert time.monotonic() == 1000.0


def test_a_dead_holder_of_this_boot_is_replaced_at_once_on_shared_storage(
    experiment: Experiment,
) -> None:
    """The same kernel would know of its lock, wherever the file lies."""
    lease = leases.acquire(experiment.path)
    write_holder(experiment, boot=lease.holder.boot)
    lease.forget()
    time = FakeClock()
    again = leases.acquire(experiment.path, clock=time.monotonic, sleep=time.sleep, local=False)
    assert time.monotonic() == 1000.0
    again.release()


def test_the_counter_grows_with_each_beat(experiment: Experiment) -> None:
    """What other machines watch changes, and goes on from what was there."""
    lease = leases.acquire(experiment.path)
    first = leases.holder_of(experiment.path)
    lease.beat()
    second = leases.holder_of(experiment.path)
    assert first is not None
    assert second is not None
    assert second.beat == first.beat + 1
    lease.release()
    lease.release()
    released = leases.holder_of(experiment.path)
    assert released is not None
    assert released.released
    again = leases.acquire(experiment.path)
    assert again.holder.beat > second.beat
    again.release()


def test_of_many_takers_exactly_one_gets_it(experiment: Experiment) -> None:
    """Takers that start together leave one holder and errors for the rest."""
    barrier = threading.Barrier(8)
    won: list[Journal] = []
    lost: list[JournalError] = []

    def take() -> None:
        barrier.wait()
        try:
            won.append(Journal.open(experiment))
        except LeaseLostError as error:
            lost.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    won[0].close("finished")


def test_the_file_system_of_a_directory_is_known(tmp_path: Path) -> None:
    """/proc is told from a disk, and what is not known to be local counts as shared."""
    assert file_system("/proc/self") == "proc"
    assert not is_local("/proc/self")
    assert file_system(str(tmp_path)) != ""
    assert file_system("/does/not/exist") in (file_system("/"), "")
