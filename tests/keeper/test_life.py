"""Kill the worker, the keeper or the driver: what was captured is committed all the same."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint.manifest import checkpoint_name
from milepost.checkpoint.verify import committed
from milepost.errors import ChannelClosedError, StorageError
from milepost.keeper import owner
from milepost.keeper.client import DriverLink
from milepost.keeper.home import Home
from milepost.keeper.protocol import CommitFailed, Committed, Drained, Notice, Released
from milepost.process import is_running
from milepost.testing.interposer import Fault, Interposer

BIG = 3 << 20


def indices(place) -> list[int]:
    return [index for index, _ in committed(place.trial)]


def drain(driver, attempt: int = 0) -> Drained:
    count = len([event for event in driver.events if isinstance(event, Drained)])
    driver.do(lambda link: link.drain("t1", attempt))
    return driver.wait_for(Drained, count + 1)[-1]


# --- the worker -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, BIG])
def test_worker_dies_right_after_a_capture(place, driver, size):
    """Once capture() has returned, the checkpoint is committed, even if nobody heard of it."""
    source = place.source(model=size)
    worker = place.worker(
        driver,
        f"""
        from milepost.keeper.connection import KeeperConnection
        KeeperConnection.announce = lambda self, capture: None
        capturer.capture({str(source)!r}, 0, b'{{"loss": 0.5}}', iteration=7)
        say("captured")
        os.kill(os.getpid(), 9)
        """,
    )
    assert worker.stdout.readline() == "captured\n"
    assert worker.wait() == -signal.SIGKILL
    before = place.contents(source)
    shutil.rmtree(source)
    assert drain(driver).highest_index == 0
    (event,) = driver.wait_for(Committed)
    assert (event.index, event.iteration, event.attempt, event.recovered) == (0, 7, 0, True)
    assert bytes(event.row) == b'{"loss": 0.5}'
    assert place.contents(place.checkpoint(0)) == before


@pytest.mark.parametrize("step", ["link", "append", "rename"])
def test_worker_dies_during_a_capture(place, driver, step):
    """What was not complete is swept, and the checkpoint before it stays the newest."""
    source = place.source(model=BIG, other=BIG)
    worker = place.worker(
        driver,
        f"""
        from milepost.storage import posix
        capturer.capture({str(source)!r}, 0, b"{{}}")
        capturer.settled(0)
        posix.{step} = lambda *_: os.kill(os.getpid(), 9)
        capturer.capture({str(source)!r}, 1, b"{{}}")
        """,
    )
    assert worker.wait() == -signal.SIGKILL
    assert drain(driver).highest_index == 1
    assert indices(place) == [0]
    place.checkpoint(0)
    assert place.staged() == []
    with open(source / "model", "wb") as file:
        file.write(b"no lease is left that would hold this up")


def test_new_attempt_after_a_death(place, driver):
    """A drained attempt and the next one share a trial; indices never meet."""
    source = place.source(model=10)
    first = place.capturer(driver)
    for index in range(3):
        first.capture(source, index, b"{}")
    assert drain(driver).highest_index == 2
    second = place.capturer(driver, attempt=1, attempt_id="attempt-b", parent="attempt-a-2")
    second.capture(source, 3, b"{}")
    second.settled(3)
    assert [manifest.id for _, manifest in committed(place.trial)] == [
        "attempt-a-0", "attempt-a-1", "attempt-a-2", "attempt-b-3",
    ]  # fmt: skip
    assert committed(place.trial)[-1][1].parent == "attempt-a-2"


def test_draining_without_a_keeper(place, driver):
    """With nothing captured there is nothing to start a keeper for."""
    assert drain(driver).highest_index == -1
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    assert not driver.do(lambda link: link.running)


def test_driver_ends_before_a_capture_was_announced(place, driver):
    """What a worker captured while its report was not answered yet is committed at the end."""
    place.capturer(driver).capture(place.source(model=10), 0, b"{}", announce=False)
    driver.close()
    assert len(committed(place.trial)) == 1


def test_commits_keep_the_order_of_reports(place, driver, capturer):
    """Small and large ones of a trial, all at once: they are committed in order."""
    small, large = place.source("small", model=10), place.source("large", model=BIG)
    for index in range(20):
        capturer.capture(large if index % 3 == 0 else small, index, b"{}")
    events = driver.wait_for(Committed, 20)
    assert [event.index for event in events] == list(range(20))
    parents = [manifest.parent for _, manifest in committed(place.trial)]
    assert parents == [None, *(f"attempt-a-{index}" for index in range(19))]


# --- the keeper -----------------------------------------------------------------------------------


def test_keeper_is_killed_and_replaced(place, driver, capturer):
    """Captures from before, during and after its death are all committed, in order."""
    source = place.source(model=BIG)
    capturer.capture(source, 0, b"{}")
    first = driver.do(lambda link: link.keeper_pid)
    os.kill(first, signal.SIGSTOP)  # so that what follows is captured and not committed
    small = place.source("small", model=10)
    for index in range(1, 6):
        capturer.capture(small, index, b"{}")
    place.kill(first)
    capturer.capture(source, 6, b"{}")
    for index in range(7):
        capturer.settled(index)
        place.checkpoint(index)
    assert driver.do(lambda link: link.keeper_pid) not in (first, None)
    assert indices(place) == list(range(7))


def test_keeper_dies_while_workers_are_busy(place, driver):
    """Nobody reports again, and still what was captured is committed by the next keeper."""
    source = place.source(model=BIG)
    capturer = place.capturer(driver)
    capturer.capture(source, 0, b"{}")
    pid = driver.do(lambda link: link.keeper_pid)
    os.kill(pid, signal.SIGSTOP)
    for index in range(1, 4):
        capturer.capture(place.source(f"small{index}", model=10), index, b"{}")
    place.kill(pid)
    driver.wait_until(lambda: indices(place) == [0, 1, 2, 3])


def test_overwritten_while_no_keeper_guards_it(place, driver):
    """A leased file that changes after its keeper's death fails loudly; it is never torn."""
    source = place.source(model=BIG)
    blocker = place.source("blocker", model=BIG)
    capturer = place.capturer(driver)
    capturer.capture(blocker, 0, b"{}")
    capturer.settled(0)
    pid = driver.do(lambda link: link.keeper_pid)
    worker = place.worker(
        driver,
        f"""
        import select
        from milepost.keeper.connection import KeeperConnection
        hand_over = KeeperConnection.hand_over
        def kill_then_hand_over(*args):
            gone = os.pidfd_open({pid})
            os.kill({pid}, 9)
            select.select([gone], [], [])
            hand_over(*args)
            with open({str(source / "model")!r}, "r+b") as file:
                file.write(b"torn!")
            say("overwritten")
        KeeperConnection.hand_over = kill_then_hand_over
        capturer.capture({str(source)!r}, 1, b"{{}}")
        try:
            capturer.settled(1)
        except Exception as error:
            say(f"{{type(error).__name__}}: {{error}}")
        """,
    )
    assert worker.stdout.readline() == "overwritten\n"
    told = worker.stdout.readline()
    assert told.startswith("CheckpointFailedError: checkpoint_000001 of trial t1")
    assert "changed after it was captured" in told
    (event,) = driver.wait_for(CommitFailed)
    assert (event.index, event.disk_full) == (1, False)
    assert indices(place) == [0]


def test_keepers_that_die_at_once(place, monkeypatch, caplog):
    """Keepers that cannot run end the run with an error that shows why, not in a loop.

    What is said of each is what it wrote itself.
    """
    driver = place.driver()
    driver.own()
    broken = place.path / "python"
    broken.write_text("#!/bin/sh\necho this interpreter is broken, says $$\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    capturer = place.capturer(driver)
    capturer.capture(place.source(model=10), 0, b"{}")
    wanted = r"(?s)5 keepers ended within .* status 3, .* stay in staging.*interpreter is broken"
    with pytest.raises(StorageError, match=wanted) as raised:
        driver.wait_for(Committed)
    assert str(raised.value).count("broken, says") == 1
    said = [each.getMessage() for each in caplog.records if "ended with" in each.getMessage()]
    assert len(said) == 4
    for each in said:
        assert re.findall(r"process (\d+)", each) == re.findall(r"broken, says (\d+)", each)
    assert len(place.staged()) == 1


def test_keeper_that_cannot_be_started(place, monkeypatch):
    """Without an interpreter there is no keeper, and the error names it."""
    driver = place.driver()
    driver.own()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    place.capturer(driver).capture(place.source(model=10), 0, b"{}")
    with pytest.raises(StorageError, match=r"cannot be started with /no/such/python: No such"):
        driver.wait_for(Committed)


def test_keeper_dies_before_it_told_anyone(place, driver):
    """A checkpoint that is committed already counts as success, and is told again."""
    capturer = place.capturer(driver)
    capturer.capture(place.source(model=10), 0, b'{"a": 1}')
    capturer.settled(0)
    driver.wait_for(Committed)
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    # The state between the rename and the removal of the intent, as a dead keeper leaves it.
    worker = place.worker(
        driver,
        f"""
        from milepost.keeper.connection import KeeperConnection
        KeeperConnection.announce = lambda self, capture: None
        capturer.capture({str(place.path / "source")!r}, 0, b'{{"a": 1}}')
        """,
    )
    assert worker.wait() == 0
    driver.own()
    drain(driver)
    events = driver.wait_for(Committed, 2)
    assert [event.index for event in events] == [0, 0]
    assert events[0].digest == events[1].digest
    assert place.staged() == []


# --- the driver -----------------------------------------------------------------------------------

DRIVER = """
import os, select, sys
from milepost.journal import experiment as experiments
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import ExperimentRef

node_root, path = sys.argv[1:3]
found = experiments.open(path)
link = DriverLink(node_root)
link.own(
    ExperimentRef(path=found.path, device=found.device, inode=found.inode, uuid=found.uuid), 1
)
print(link.address, flush=True)
while True:
    select.select([link], [], [])
    if link.events() is not None and link.running:
        print(link.keeper_pid, flush=True)
"""


@pytest.fixture
def other_driver(place):
    """A driver in a process of its own: that process, its address, and its keeper's id."""
    own = place.driver()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), place.node_root, place.experiment],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    address = child.stdout.readline().strip()
    yield own, child, address
    child.kill()
    child.wait()
    child.stdout.close()


def test_driver_is_killed(place, other_driver):
    """Its keeper kills the workers, commits what they captured, and ends; nothing is left."""
    own, child, address = other_driver
    source = place.source(model=BIG)
    worker = place.worker(
        own,
        f"""
        import subprocess
        helper = subprocess.Popen(["sleep", "600"])
        capturer.capture({str(source)!r}, 0, b"{{}}")
        capturer.settled(0)
        say(str(helper.pid))
        for index in range(1, 40):
            capturer.capture({str(source)!r}, index, b"{{}}")
            say(str(index))
        import time
        time.sleep(600)
        """,
        keeper_address=address,
    )
    helper = int(worker.stdout.readline())
    keeper = int(child.stdout.readline())
    captured = [int(worker.stdout.readline()) for _ in range(5)][-1]
    child.kill()
    place.wait_until_gone(keeper)
    place.wait_until_gone(helper)
    assert worker.wait() == -signal.SIGKILL
    found = indices(place)
    assert found == list(range(len(found)))
    assert len(found) > captured
    for index in found:
        place.checkpoint(index)
    assert place.staged() == []
    assert not os.path.exists(os.path.dirname(address))


def test_driver_is_killed_right_after_a_worker(place, other_driver):
    """What a worker has left behind ends too, even if nobody else was there to end it."""
    own, child, address = other_driver
    worker = place.worker(
        own,
        f"""
        import subprocess
        helper = subprocess.Popen(["sleep", "600"])
        capturer.capture({str(place.source(model=BIG))!r}, 0, b"{{}}")
        capturer.settled(0)
        say(str(helper.pid))
        os._exit(0)
        """,
        keeper_address=address,
    )
    helper = int(worker.stdout.readline())
    keeper = int(child.stdout.readline())
    assert worker.wait() == 0
    assert is_running(helper)
    child.kill()
    place.wait_until_gone(keeper)
    place.wait_until_gone(helper)


def test_drain_is_bounded(place, monkeypatch):
    """A keeper whose time is up exits although it is not done; the next one commits the rest."""
    monkeypatch.setenv("MILEPOST_DRAIN_S", "0")
    # Commits wait for a file system that does not answer.
    site = place.path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "if 'milepost.keeper' in sys.orig_argv:\n"
        "    from milepost.storage import posix\n"
        "    posix.fsync_file = lambda path: threading.Event().wait()\n"
    )
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        driver = place.driver()
        driver.own()
        capturer = place.capturer(driver)
        capturer.capture(place.source(model=BIG), 0, b"{}")
        pid = driver.do(lambda link: link.keeper_pid)
        capturer.close()
        driver.close()
    place.wait_until_gone(pid)
    assert indices(place) == []
    assert not os.path.exists(os.path.join(place.node_root, "keepers"))
    following = place.driver()
    following.own(epoch=2)
    following.do(lambda link: link.release())
    following.wait_for(Released)
    assert indices(place) == [0]
    assert os.listdir(place.node_root) == ["keepers"]


def test_next_driver_waits_for_the_old_keeper(place, other_driver):
    """Taking over waits until the old keeper has drained; the new one finds it all done."""
    own, child, address = other_driver
    capturer = place.capturer(own, keeper_address=address)
    source = place.source(model=BIG)
    capturer.capture(source, 0, b"{}")
    keeper = int(child.stdout.readline())
    capturer.settled(0)
    os.kill(keeper, signal.SIGSTOP)
    for index in range(1, 4):
        capturer.capture(place.source(f"small{index}", model=10), index, b"{}")
    child.kill()
    child.wait()
    copied = msgspec.structs.replace(own.reference, inode=1)
    assert not owner.await_predecessor(place.node_root, copied, 0.0), "a copy has its own keeper"
    os.kill(keeper, signal.SIGCONT)
    assert owner.await_predecessor(place.node_root, own.reference, 30.0)
    assert indices(place) == [0, 1, 2, 3]
    assert not owner.await_predecessor(place.node_root, own.reference, 30.0)


def test_old_keeper_that_hangs_is_ended(place, other_driver):
    """After the time given it is killed, and the next keeper commits what it had left."""
    own, child, address = other_driver
    capturer = place.capturer(own, keeper_address=address)
    capturer.capture(place.source(model=BIG), 0, b"{}")
    keeper = int(child.stdout.readline())
    capturer.settled(0)
    os.kill(keeper, signal.SIGSTOP)
    capturer.capture(place.source("small", model=10), 1, b"{}")
    child.kill()
    child.wait()
    assert owner.await_predecessor(place.node_root, own.reference, 0.0)
    place.wait_until_gone(keeper)
    own.own(epoch=1)
    own.wait_until(lambda: indices(place) == [0, 1])


def test_fenced_keeper_publishes_nothing(place, driver, capturer):
    """Once a higher epoch exists, the old driver's keeper leaves everything in staging."""
    source = place.source(model=10)
    capturer.capture(source, 0, b"{}")
    capturer.settled(0)
    journal = os.path.join(place.experiment, ".milepost", "journal")
    with open(os.path.join(journal, "00000001.jsonl"), "w"):
        capturer.capture(source, 1, b"{}")
        capturer.settled(1)
    with open(os.path.join(journal, "00000002.jsonl"), "w"):
        capturer.capture(source, 2, b"{}")
    notices = driver.wait_for(Notice)
    assert "another driver has taken" in notices[-1].text
    assert notices[-1].level == "error"
    assert indices(place) == [0, 1]
    driver.wait_until(lambda: len(place.staged()) == 1)
    driver.close()
    assert indices(place) == [0, 1]
    following = place.driver()
    following.own(epoch=2)
    following.wait_for(Committed)
    assert indices(place) == [0, 1, 2]
    following.wait_until(lambda: not place.staged())


def test_worker_without_a_driver(place):
    """When the driver has gone for good, a capture says so, and is committed later."""
    driver = place.driver()
    driver.own()
    capturer = place.capturer(driver)
    driver.close()
    with pytest.raises(ChannelClosedError, match=r"the driver of this experiment has ended"):
        capturer.capture(place.source(model=10), 0, b"{}")
    following = place.driver()
    following.own()
    following.wait_for(Committed)
    assert indices(place) == [0]


def test_nothing_is_left_behind(place):
    """After a run: no process, no descriptor, no directory; a second run finds a clean place."""
    fds = len(os.listdir("/proc/self/fd"))
    for epoch in (1, 2):
        driver = place.driver()
        driver.own(epoch)
        capturer = place.capturer(driver, attempt=epoch, attempt_id=f"attempt-{epoch}")
        for size in (10, BIG):
            index = 2 * epoch + (size == BIG)
            capturer.capture(place.source(f"{epoch}-{size}", model=size), index, b"{}")
            capturer.settled(index)
        pid = driver.do(lambda link: link.keeper_pid)
        driver.do(lambda link: link.release())
        driver.wait_for(Released)
        capturer.close()
        driver.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert os.listdir(place.node_root) == []
        assert sorted(os.listdir(place.path / "storage")) == ["experiment"]
        assert len(os.listdir("/proc/self/fd")) == fds
    assert sorted(os.listdir(place.trial)) == [checkpoint_name(index) for index in (2, 3, 4, 5)]


def test_homes_of_killed_drivers_are_swept(place, other_driver):
    """A driver that is killed before it has a keeper leaves a directory; the next removes it."""
    _own, child, address = other_driver
    child.kill()
    child.wait()
    home = os.path.dirname(address)
    assert os.path.exists(home)
    with DriverLink(place.node_root):
        assert not os.path.exists(home)


@pytest.mark.parametrize("at", range(1, 6))
def test_homes_whose_removal_was_cut_are_swept(place, at):
    """However far whoever removed it came: the next driver finishes it."""
    home = Home(place.node_root)
    for name in ("keeper.sock", "keeper.log"):
        Path(home.file(name)).touch()
    with Interposer(Fault("eio", at)):
        if at < 5:  # three files and the directory; the directory of homes comes last
            with pytest.raises(OSError, match="Input/output error"):
                home.remove()
            assert os.path.exists(home.path)
        else:
            home.remove()
    home.close()
    with DriverLink(place.node_root):
        assert not os.path.exists(home.path)


def test_end_by_sigterm(place, driver, capturer):
    """SIGTERM lets the keeper finish; the driver starts another when it needs one."""
    capturer.capture(place.source(model=BIG), 0, b"{}")
    capturer.settled(0)
    pid = driver.do(lambda link: link.keeper_pid)
    os.kill(pid, signal.SIGTERM)
    driver.wait_until(lambda: driver.link.keeper_pid != pid)
    capturer.capture(place.source("next", model=BIG), 1, b"{}")
    capturer.settled(1)
    assert indices(place) == [0, 1]
