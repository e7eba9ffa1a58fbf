"""Directories that become checkpoints without a copy: nothing of them is ever lost."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME
from milepost.checkpoint.verify import committed
from milepost.errors import CaptureError, CheckpointFailedError
from milepost.keeper import intent as intents
from milepost.keeper import returning
from milepost.keeper.protocol import Committed, Deleted, Drained, Notice, Released
from milepost.testing.interposer import Interposer

BIG = (1 << 20) + 1
AFTER_BOOT = {"complete": True, "boot": "an earlier boot"}


def capture(capturer, directory: Path, index: int = 0, **fields) -> None:
    options = {"owned": True, "in_place": True, "dir_name": "mine", **fields}
    capturer.capture(directory, index, b"{}", **options)


def is_back(directory: Path) -> bool:
    """Whether a directory is what it was, and no checkpoint."""
    return os.listdir(directory) == ["model"] and (directory / "model").read_bytes() == b"no copy"


def test_the_directory_itself(place, driver, capturer):
    """It is renamed, however small it is, and gets its manifest."""
    source = place.in_place()
    inode = source.stat().st_ino
    capture(capturer, source)
    assert not source.exists()
    found = Path(capturer.settled(0))
    assert found == place.checkpoint(0, name="mine")
    assert found.stat().st_ino == inode
    assert manifests.read(found).dir_name == "mine"


def test_where_it_waits(place, driver, monkeypatch):
    """Not in a temporary directory; its record is durable before it is moved."""
    from milepost.keeper.connection import KeeperConnection

    monkeypatch.setattr(KeeperConnection, "announce", lambda self, capture: None)
    source = place.in_place()
    with Interposer() as steps:
        capture(place.capturer(driver), source)
    assert all(path.startswith(os.path.dirname(place.experiment)) for path in place.staged())
    done = [step.operation for step in steps.steps]
    assert done[: done.index("rename")][-4:] == [
        "fsync_file",
        "fsync_dir",
        "fsync_dir",
        "fsync_dir",
    ]


@pytest.mark.parametrize(
    ("fields", "torn"),
    [({}, False), (AFTER_BOOT, False), (AFTER_BOOT, True)],
    ids=["killed", "reboot", "power loss"],
)
def test_what_is_not_committed_goes_back(place, fields, torn):
    """A process that died while it captured, or the whole machine: nothing is removed."""
    driver = place.driver()
    base = place.stage(driver, 0, came_from="sub/here", **{"complete": False, **fields})
    if torn:
        record = Path(base + intents.CAPTURED_SUFFIX)
        record.write_bytes(record.read_bytes().partition(b"\n")[0] + b"\n\0\0")
    tree = Path(base + intents.FILES_SUFFIX)
    shutil.rmtree(tree, ignore_errors=True)
    shutil.move(place.in_place(), tree)
    (tree / MANIFEST_NAME).write_bytes(b"of a commit that failed")
    driver.own()
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    assert is_back(Path(place.trial, "sub", "here"))
    assert place.staged() == []
    notices = [event.text for event in driver.events if isinstance(event, Notice)]
    assert any("sub/here was to become checkpoint_000000 of trial t1" in each for each in notices)


def test_a_checkpoint_that_lacks_a_part(place, driver):
    """Another worker's death before its capture brings this one's directory back."""
    worker = place.capturer(driver)
    source = place.in_place()
    capture(worker, source, ranks=(0, 1))
    driver.do(lambda link: link.drain("t1", 0))
    driver.wait_for(Drained)
    with pytest.raises(CheckpointFailedError, match=r"^mine of trial t1 was captured but"):
        worker.settled(0)
    driver.wait_until(lambda: not place.staged())
    assert is_back(source)


def test_a_place_that_is_taken(place, capsys):
    """What cannot go back, because something else is there now, stays in staging."""
    driver = place.driver()
    base = place.stage(driver, 0, came_from="here", complete=False)
    os.makedirs(os.path.join(place.trial, "here"))
    with pytest.raises(FileExistsError):
        returning.discard(base, place.experiment)
    assert os.path.exists(os.path.join(base + intents.FILES_SUFFIX, "half"))
    assert intents.read(base) is not None


def test_parts_that_are_committed_are_not_put_back(place, driver):
    """A keeper that died while it cleared staging leaves parts that are in the checkpoint."""
    workers = [place.capturer(driver, rank=rank) for rank in range(2)]
    for rank, worker in enumerate(workers):
        source = place.source(f"rank{rank}", **{f"shard-{rank}": BIG})
        worker.capture(source, 0, b"{}", ranks=(0, 1), dir_name="mine")
    workers[0].settled(0)
    driver.wait_until(lambda: not place.staged())  # the keeper clears it after the commit
    base = place.stage(driver, 0, came_from="here", complete=False, dir_name="mine", rank=1)
    returning.discard(base, place.experiment)
    assert sorted(os.listdir(place.trial)) == ["mine"]
    assert place.staged() == []


@pytest.mark.parametrize("way", ["link", "stray", "cwd"])
def test_what_cannot_be_moved(place, driver, capturer, monkeypatch, way):
    """It is an error that says why; the directory is as it was."""
    source = place.in_place()
    if way == "cwd":
        monkeypatch.chdir(source)
    elif way == "stray":
        (source / "out").symlink_to("/etc/hostname")
    else:
        source = source.rename(source.with_name("there"))
        source.with_name("here").symlink_to(source)
    with pytest.raises(CaptureError, match="cannot become a checkpoint without a copy"):
        capture(capturer, Path(place.trial, "here"))
    assert (source / "model").read_bytes() == b"no copy"
    assert place.staged() == []


def test_names_of_parents(place, driver, capturer, monkeypatch):
    """Each capture names the directory of the one before, whose files it may share."""
    from milepost.keeper.connection import KeeperConnection

    monkeypatch.setattr(KeeperConnection, "announce", lambda self, capture: None)
    for index, name in enumerate(["a", msgspec.UNSET, "b"]):
        capturer.capture(place.source(f"s{index}", x=10), index, b"{}", dir_name=name)
    found = sorted(
        (intents.read(path.removesuffix(intents.CAPTURED_SUFFIX)) for path in place.staged()),
        key=lambda staged: staged.intent.index,
    )
    assert [each.intent.directory for each in found] == ["a", "checkpoint_000001", "b"]
    parents = [each.intent.parent_dir_name for each in found]
    assert parents == [msgspec.UNSET, "a", msgspec.UNSET]


def test_a_name_that_is_another_s_by_now(place, driver, capturer):
    """A deletion that is repeated does not touch the checkpoint that has the name since then."""
    for index in range(2):
        capturer.capture(place.source(f"s{index}", x=10), index, b"{}", dir_name="best")
        path = capturer.settled(index)
        for _ in range(2 - index):
            driver.do(partial(lambda path, link: link.delete("t1", 0, path), path))
    outcomes = [event.outcome for event in driver.wait_for(Deleted, 3)]
    assert outcomes == ["deleted", "gone", "gone"]
    assert [index for index, _ in committed(place.trial)] == [1]


def test_a_keeper_that_never_told(place, driver, capturer):
    """Whoever asks again finds the checkpoint by its name."""
    capture(capturer, place.in_place())
    capturer.settled(0)
    driver.wait_for(Committed)
    other = place.capturer(driver, rank=1)
    assert other.settled(0, elsewhere=True, dir_name="mine") == os.path.join(place.trial, "mine")


@pytest.mark.parametrize("field", ["dir_name", "parent_dir_name", "came_from"])
@pytest.mark.parametrize("value", ["", "..", "../x", "/x", "a/../../x", "a\0b", "."])
def test_paths_of_records(place, field, value):
    """A record by which something outside of the trial would be touched is none."""
    driver = place.driver()
    base = place.stage(driver, 0, **{field: value})
    assert intents.read(base) is None
    assert intents.read(place.stage(driver, 1, **{field: "good"})) is not None
    assert intents.read(place.stage(driver, 2, came_from="a/..b/.c")) is not None
