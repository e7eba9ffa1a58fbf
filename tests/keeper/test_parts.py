"""Checkpoints of several workers: committed when every part is there, as one."""

from __future__ import annotations

import os
import shutil
from functools import partial

import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.verify import committed
from milepost.errors import CheckpointFailedError
from milepost.keeper.protocol import CommitFailed, Committed, Drained, Released

BIG = (1 << 20) + 1


def ranks(place, driver, count: int = 3):
    """Workers whose captures belong together."""
    workers = [place.capturer(driver, rank=rank) for rank in range(count)]
    for worker in workers:
        worker.capture = partial(worker.capture, ranks=tuple(range(count)))
    return workers


def test_some_workers_may_have_no_part(place, driver):
    """The checkpoint is what those have that belong to it; its row is that of the lowest."""
    for rank in (2, 1):
        worker = place.capturer(driver, rank=rank)
        source = place.source(f"rank{rank}", **{f"shard-{rank}": BIG})
        worker.capture(source, 0, b'{"rank": %d}' % rank, ranks=(1, 2))
    worker.settled(0)
    manifest = manifests.read(place.checkpoint(0))
    assert [part.rank for part in manifest.parts] == [1, 2]
    assert bytes(manifest.metrics) == b'{"rank": 1}'


@pytest.mark.parametrize("size", [10, BIG])
def test_parts_make_one_checkpoint(place, driver, size):
    """All files of all workers, the row of rank 0, and who contributed what."""
    workers = ranks(place, driver)
    whole = {}
    for rank, worker in enumerate(workers):
        source = place.source(f"rank{rank}", **{f"shard-{rank}": size, "common": b"the same"})
        (source / "sub").mkdir()
        (source / "sub" / f"log-{rank}").write_text(f"log of {rank}")
        (source / "latest").symlink_to("common")
        whole |= place.contents(source)
        assert committed(place.trial) == []
        worker.capture(source, 0, b'{"rank": %d}' % rank)
        shutil.rmtree(source)
    path = {worker.settled(0) for worker in workers}
    assert path == {str(place.checkpoint(0))}
    assert place.contents(place.checkpoint(0)) == whole
    manifest = manifests.read(place.checkpoint(0))
    assert bytes(manifest.metrics) == b'{"rank": 0}'
    assert [part.rank for part in manifest.parts] == [0, 1, 2]
    for part in manifest.parts:
        assert sorted(part.paths) == [
            "common", "latest", f"shard-{part.rank}", f"sub/log-{part.rank}",
        ]  # fmt: skip
    assert len(driver.wait_for(Committed)) == 1
    driver.wait_until(lambda: not place.staged())


def test_workers_without_files(place, driver):
    """A worker that has nothing to save captures an empty directory."""
    workers = ranks(place, driver)
    workers[2].capture(place.source("empty2"), 0, b"{}")
    workers[0].capture(place.source("full", model=BIG), 0, b"{}")
    workers[1].capture(place.source("empty1"), 0, b"{}")
    workers[1].settled(0)
    assert sorted(os.listdir(place.checkpoint(0))) == [".milepost.json", "model"]


@pytest.mark.parametrize("size", [10, BIG])
def test_parts_that_contradict(place, driver, size):
    """Two workers with different bytes under one path: an error for all that names both."""
    workers = ranks(place, driver, 2)
    for rank, worker in enumerate(workers):
        worker.capture(place.source(f"rank{rank}", model=size), 0, b"{}")
    for worker in workers:
        with pytest.raises(CheckpointFailedError, match=r"workers 0 and 1 both captured 'model'"):
            worker.settled(0)
    assert committed(place.trial) == []
    assert len(driver.wait_for(CommitFailed)) == 1
    driver.wait_until(lambda: not place.staged())
    assert os.listdir(place.trial) == []


def test_order_and_interleaving(place, driver):
    """Workers may be checkpoints apart; commits are in order all the same."""
    workers = ranks(place, driver, 2)
    for rank, worker in enumerate(workers):
        for index in range(5):
            source = place.source(f"{rank}-{index}", **{f"shard-{rank}": 10})
            worker.capture(source, index, b"{}")
    workers[0].settled(4)
    assert [event.index for event in driver.wait_for(Committed, 5)] == [0, 1, 2, 3, 4]


def test_a_part_that_never_comes(place, driver):
    """When the attempt has ended, what lacks a part fails and says whose; staging is clean."""
    workers = ranks(place, driver)
    for rank in (0, 2):
        workers[rank].capture(place.source(f"rank{rank}", model=BIG), 0, b"{}")
    driver.do(lambda link: link.drain("t1", 0))
    driver.wait_for(Drained)
    (event,) = driver.wait_for(CommitFailed)
    assert "it has no part from worker 1 of 3, which ended before" in event.error
    with pytest.raises(CheckpointFailedError, match="no part from worker 1"):
        workers[0].settled(0)
    driver.wait_until(lambda: not place.staged())
    assert committed(place.trial) == []


def test_keeper_dies_between_the_parts(place, driver):
    """The next keeper finds the first part in staging and waits for the others."""
    workers = ranks(place, driver)
    workers[0].capture(place.source("rank0", shard0=BIG), 0, b"{}")
    pid = driver.do(lambda link: link.keeper_pid)
    place.kill(pid)
    for rank in (1, 2):
        workers[rank].capture(place.source(f"rank{rank}", **{f"shard{rank}": BIG}), 0, b"{}")
    assert {worker.settled(0) for worker in workers} == {str(place.checkpoint(0))}
    assert len(manifests.read(place.checkpoint(0)).files) == 3


def test_parts_of_a_checkpoint_that_is_committed(place, driver):
    """A keeper that died while it cleared staging leaves some parts: no failure is told."""
    workers = ranks(place, driver, 2)
    sources = [place.source(f"rank{rank}", **{f"shard{rank}": BIG}) for rank in range(2)]
    for worker, source in zip(workers, sources, strict=True):
        worker.capture(source, 0, b"{}")
    workers[0].settled(0)
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    worker = place.worker(
        driver,
        f"""
        from milepost.keeper.connection import KeeperConnection
        KeeperConnection.announce = lambda self, capture: None
        capturer.capture({str(sources[1])!r}, 0, b"{{}}", ranks=(0, 1))
        """,
        rank=1,
    )
    assert worker.wait() == 0
    driver.own()
    driver.do(lambda link: link.drain("t1", 0))
    driver.wait_for(Drained)
    assert [event.index for event in driver.wait_for(Committed, 2)] == [0, 0]
    assert not [event for event in driver.events if isinstance(event, CommitFailed)]
    driver.wait_until(lambda: not place.staged())


def test_parts_from_other_file_systems(place, driver, mount):
    """Each part comes from where it is; what cannot be linked is copied."""
    disk = mount("tmpfs", 64 << 20)
    sources = [place.source("rank0", shard0=BIG), disk / "rank1"]
    sources[1].mkdir()
    (sources[1] / "shard1").write_bytes(os.urandom(BIG))
    whole = place.contents(sources[0]) | place.contents(sources[1])
    workers = ranks(place, driver, 2)
    for worker, source in zip(workers, sources, strict=True):
        assert worker.capture(source, 0, b"{}").ways == {"leased": 1}
    workers[0].settled(0)
    assert place.contents(place.checkpoint(0)) == whole
