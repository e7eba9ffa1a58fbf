"""Bounds: full disks, bytes and checkpoints in staging, and what is asked of a place."""

from __future__ import annotations

import os
import threading

import pytest

from milepost.checkpoint.manifest import checkpoint_name
from milepost.checkpoint.verify import committed
from milepost.errors import CaptureError, CheckpointFailedError, StorageError
from milepost.keeper import capture as captures
from milepost.keeper.client import DriverLink
from milepost.keeper.protocol import CommitFailed, Committed, Deleted
from milepost.keeper.room import Room
from milepost.keeper.settings import DRAIN_VARIABLE, STAGING_BYTES_VARIABLE, drain_s, staging_bytes

BIG = 3 << 20


# --- full disks -----------------------------------------------------------------------------------


@pytest.fixture
def full_storage(place, mount):
    """Storage on a disk of eight mebibytes; what is captured comes from another disk."""
    disk = mount("tmpfs", 8 << 20)
    place.experiment = str(disk / "storage" / "experiment")
    place.trial = os.path.join(place.experiment, "trial")
    return disk


@pytest.mark.parametrize("size", [BIG, 400 << 10])
def test_storage_is_full(place, full_storage, size):
    """A clear error, once; the checkpoints before it are whole; room makes the next one work."""
    driver = place.driver()
    driver.own()
    capturer = place.capturer(driver)
    source = place.source(model=size)
    index = 0
    while True:
        capturer.capture(source, index, b"{}")
        try:
            capturer.settled(index)
        except CheckpointFailedError as error:
            message = str(error)
            break
        index += 1
    assert index > 1
    assert f"{checkpoint_name(index)} of trial t1 was captured but could not be" in message
    assert "No space left on device" in message
    assert "Free some space, or keep fewer checkpoints" in message
    (event,) = driver.wait_for(CommitFailed)
    assert (event.index, event.disk_full) == (index, True)
    assert [number for number, _ in committed(place.trial)] == list(range(index))
    for number in range(index):
        place.checkpoint(number)
    assert len(os.listdir(place.trial)) == index, "nothing of the failed one may stay"
    driver.wait_until(lambda: not place.staged())

    path = str(place.checkpoint(0))
    driver.do(lambda link: link.delete("t1", 0, path))
    (deleted,) = driver.wait_for(Deleted)
    assert deleted.outcome == "deleted"
    capturer.capture(source, index + 1, b"{}")
    assert capturer.settled(index + 1) == str(place.checkpoint(index + 1))


def test_node_root_is_full(place, driver, mount):
    """No room for a copy is an error of the report; nothing of it stays in staging."""
    node = mount("tmpfs", 1 << 20)
    capturer = place.capturer(driver, node_root=str(node))
    (node / "ballast").write_bytes(bytes(900 << 10))
    source = place.source(model=500 << 10)
    with pytest.raises(CaptureError, match=r"source could not be captured: No space left"):
        capturer.capture(source, 0, b"{}")
    assert [name for _, _, files in os.walk(node) for name in files] == ["ballast"]


def test_node_root_cannot_be_written(place, driver):
    """A node root that has gone read-only is named, with the way out."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    capturer = place.capturer(driver)
    os.chmod(place.node_root, 0o500)
    try:
        with pytest.raises(StorageError, match=r"staging cannot be used.*MILEPOST_NODE_ROOT"):
            capturer.capture(place.source(model=10), 0, b"{}")
    finally:
        os.chmod(place.node_root, 0o700)


def test_node_root_is_a_file(place, driver):
    """So is one that cannot hold anything."""
    path = place.path / "file"
    path.write_text("")
    capturer = place.capturer(driver, node_root=str(path))
    with pytest.raises(StorageError, match=r"file/staging cannot be used: Not a directory"):
        capturer.capture(place.source(model=10), 0, b"{}")


# --- waiting for room -----------------------------------------------------------------------------


def test_too_many_in_flight(place, driver, monkeypatch, caplog):
    """With so many captures not committed, the next one waits for a commit and says so."""
    monkeypatch.setattr(captures, "IN_FLIGHT", 4)
    capturer = place.capturer(driver)
    source = place.source(model=10)
    capturer.capture(source, 0, b"{}")
    capturer.settled(0)
    pid = driver.do(lambda link: link.keeper_pid)
    os.kill(pid, 19)  # SIGSTOP: commits come to a halt
    for index in range(1, 5):
        assert capturer.capture(source, index, b"{}").waited_s == 0
    waited = []
    thread = threading.Thread(
        target=lambda: waited.append(capturer.capture(source, 5, b"{}").waited_s)
    )
    thread.start()
    driver.wait_until(lambda: "report waits: 4 checkpoints of trial t1" in caplog.text)
    assert not waited
    os.kill(pid, 18)  # SIGCONT
    thread.join()
    assert waited[0] > 0
    capturer.settled(5)
    assert "Storage is slower than the reports" in caplog.text


def test_too_many_bytes_in_staging(place, monkeypatch, caplog):
    """A capture that finds staging full waits until the one before it is committed."""
    monkeypatch.setenv(STAGING_BYTES_VARIABLE, str(4 << 20))
    driver = place.driver()
    driver.own()
    capturer = place.capturer(driver)
    source = place.source(model=BIG)
    waited = [capturer.capture(source, index, b"{}").waited_s for index in range(6)]
    assert waited[0] == 0
    assert max(waited) > 0
    for index in range(6):
        capturer.settled(index)
    assert "there is no room for 3,145,728 more of checkpoint" in caplog.text


def test_larger_than_the_bound(place, monkeypatch):
    """A checkpoint larger than all of staging is let in alone."""
    monkeypatch.setenv(STAGING_BYTES_VARIABLE, "1000")
    driver = place.driver()
    driver.own()
    capturer = place.capturer(driver)
    for index in range(3):
        capturer.capture(place.source(f"source{index}", model=BIG), index, b"{}")
    capturer.settled(2)
    assert len(driver.wait_for(Committed, 3)) == 3


def test_room_of_a_dead_worker(place, monkeypatch):
    """What a worker had reserved when it died is free for others."""
    monkeypatch.setenv(STAGING_BYTES_VARIABLE, str(4 << 20))
    driver = place.driver()
    driver.own()
    source = place.source(model=BIG)
    worker = place.worker(
        driver,
        f"""
        from milepost.storage import posix
        posix.append = lambda *_: os.kill(os.getpid(), 9)
        capturer.capture({str(source)!r}, 0, b"{{}}")
        """,
    )
    assert worker.wait() == -9
    capturer = place.capturer(driver, trial_id="t2", trial_dir="other")
    capturer.capture(source, 0, b"{}")
    capturer.settled(0)


def key(number: int):
    return ("uuid", "trial", 0, 0, number)


def test_room_admits_in_order():
    """Room goes to who asked first, even if a later one would fit."""
    room, granted = Room(100), []

    def reserve(number: int, nbytes: int) -> bool:
        return room.reserve(key(number), nbytes, lambda waited_s: granted.append(number))

    assert reserve(1, 60)
    assert not reserve(2, 50)
    assert not reserve(3, 10)
    room.release(key(1))
    assert granted == [1, 2, 3]
    assert room.nbytes == 60
    assert not reserve(4, 1000)
    room.release(key(4))
    assert reserve(5, 40), "one that gave up holds nobody up"
    room.take(key(5), 20)
    assert room.nbytes == 80, "bytes are known better after the capture"
    for number in (2, 3, 5, 6):
        room.release(key(number))
    assert room.nbytes == 0
    assert reserve(7, 1000), "alone, anything is let in"


def test_bound_on_staging(monkeypatch, tmp_path):
    """The default is 16 GiB or a quarter of the free space, the variable is taken as it is."""
    monkeypatch.delenv(STAGING_BYTES_VARIABLE, raising=False)
    disk = os.statvfs(tmp_path)
    quarter = disk.f_bavail * disk.f_frsize // 4
    assert 0 < staging_bytes(str(tmp_path)) <= min(16 << 30, quarter + (1 << 30))
    monkeypatch.setenv(STAGING_BYTES_VARIABLE, "12345")
    assert staging_bytes(str(tmp_path)) == 12345


@pytest.mark.parametrize(
    ("variable", "value"),
    [(STAGING_BYTES_VARIABLE, value) for value in ("0", "-1", "1.5", "many")]
    + [(DRAIN_VARIABLE, value) for value in ("soon", "-1", "nan", "inf")],
)
def test_settings_that_are_no_numbers(place, monkeypatch, variable, value):
    """The driver is told at once, not by keepers that cannot start."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}='{value}' is not a"):
        DriverLink(place.node_root)
    assert os.listdir(place.node_root) == []


def test_drain_time(monkeypatch):
    """Zero means not to wait."""
    monkeypatch.delenv(DRAIN_VARIABLE, raising=False)
    assert drain_s() == 60
    monkeypatch.setenv(DRAIN_VARIABLE, "0")
    assert drain_s() == 0
