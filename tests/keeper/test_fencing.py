"""A keeper whose driver was replaced, or that slept through it, publishes and deletes nothing."""

from __future__ import annotations

import os
import signal

import pytest

from milepost.checkpoint import collect
from milepost.checkpoint.verify import committed
from milepost.errors import LeaseLostError
from milepost.journal import epochs
from milepost.journal import experiment as experiments
from milepost.journal.log import Journal
from milepost.keeper.protocol import Committed, Deleted, Notice
from milepost.storage import posix


def indices(place) -> list[int]:
    return [index for index, _ in committed(place.trial)]


def two_committed(place, driver) -> list[str]:
    """Commit two checkpoints under epoch 1; their directories."""
    journal = epochs.journal_directory(place.experiment)
    os.close(posix.create_new(os.path.join(journal, "00000001.jsonl")))
    capturer = place.capturer(driver)
    for index in range(2):
        capturer.capture(place.source(f"source{index}", model=10), index, b"{}")
        capturer.settled(index)
    return [str(place.checkpoint(index)) for index in range(2)]


def take_over(place) -> Journal:
    """What a new driver does first."""
    return Journal.open(experiments.open(place.experiment))


def test_a_fenced_keeper_deletes_nothing(place, driver):
    """The answer says why; the checkpoint stays as it is."""
    first, second = two_committed(place, driver)
    driver.do(lambda link: link.delete("t1", 0, first))
    (deleted,) = driver.wait_for(Deleted)
    assert deleted.outcome == "deleted"
    journal = take_over(place)
    driver.do(lambda link: link.delete("t1", 1, second))
    deleted = driver.wait_for(Deleted, 2)[-1]
    assert deleted.outcome == "failed"
    assert "another driver has taken" in deleted.reason
    assert indices(place) == [1]
    journal.close("finished")


def test_a_keeper_that_was_stopped_meanwhile(place, driver):
    """What it was told before it was stopped, it does not do after its driver was replaced."""
    _, second = two_committed(place, driver)
    keeper = driver.do(lambda link: link.keeper_pid)
    os.kill(keeper, signal.SIGSTOP)
    place.stage(driver, 2)
    driver.do(lambda link: link.delete("t1", 1, second))
    driver.do(lambda link: link.drain("t1", 0))
    journal = take_over(place)
    os.kill(keeper, signal.SIGCONT)
    deleted = driver.wait_for(Deleted)[-1]
    assert deleted.outcome == "failed"
    notices = driver.wait_for(Notice)
    driver.wait_until(lambda: any("another driver has taken" in each.text for each in notices))
    assert indices(place) == [0, 1]
    assert len(place.staged()) == 1
    driver.close()
    following = place.driver()
    following.own(epoch=journal.epoch)
    following.wait_for(Committed)
    assert indices(place) == [0, 1, 2]
    journal.close("finished")


def test_the_epoch_is_checked_right_before_a_deletion(place, driver):
    """A keeper that is stopped between its first look and the deletion finds out, too."""
    first, _ = two_committed(place, driver)

    def fence() -> None:
        raise LeaseLostError("another driver has taken it over")

    with pytest.raises(LeaseLostError):
        collect.retire(first, fence=fence)
    place.checkpoint(0)
    assert collect.retire(first, fence=lambda: None) == "deleted"


def test_a_fenced_keeper_sweeps_nothing(place):
    """What lies in the trials' directories may be what its successor is committing."""
    driver = place.driver()
    for _ in range(2):
        take_over(place).close("interrupted")
    left = os.path.join(place.trial, ".milepost-tmp-checkpoint_000007-x")
    os.makedirs(left)
    place.stage(driver, 0)
    driver.own(epoch=1)
    driver.wait_until(lambda: any("another driver" in e.text for e in driver.wait_for(Notice)))
    assert os.path.exists(left)
    assert indices(place) == []
