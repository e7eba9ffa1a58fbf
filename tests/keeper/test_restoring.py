"""What a restoring driver learns from its keeper of the time when there was none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from milepost.checkpoint.verify import committed
from milepost.journal import epochs
from milepost.journal import experiment as experiments
from milepost.keeper import assemble, owner
from milepost.keeper.protocol import CommitFailed, Committed, Drained, Notice

DRIVER = """
import os, select, sys
from milepost.journal import experiment as experiments
from milepost.journal.log import Journal
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import ExperimentRef

node_root, path = sys.argv[1:3]
found = experiments.open(path)
journal = Journal.open(found)
link = DriverLink(node_root)
reference = ExperimentRef(path=found.path, device=found.device, inode=found.inode, uuid=found.uuid)
link.own(reference, journal.epoch)
print(link.address, flush=True)
while True:
    select.select([link], [], [])
    for event in link.events():
        print(type(event).__name__, link.keeper_pid, flush=True)
"""


@pytest.fixture
def first_run(place):
    """A driver in a process of its own, with the journal open: that process and its address."""
    place.driver().close()  # creates the experiment
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), place.node_root, place.experiment],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    yield child, child.stdout.readline().strip()
    child.kill()
    child.wait()
    child.stdout.close()


def restoring(place):
    """The next driver, as a restore begins: it waits for the old keeper, then owns."""
    driver = place.driver()
    owner.await_predecessor(place.node_root, driver.reference, 30.0)
    driver.own(epoch=epochs.newest_epoch(place.experiment) + 1)
    return driver


def drained(driver, trial_id: str, attempt: int) -> Drained:
    driver.do(lambda link: link.drain(trial_id, attempt))
    driver.wait_until(
        lambda: any(
            isinstance(event, Drained) and (event.trial_id, event.attempt) == (trial_id, attempt)
            for event in driver.events
        )
    )
    return next(
        event
        for event in driver.events
        if isinstance(event, Drained) and (event.trial_id, event.attempt) == (trial_id, attempt)
    )


def test_a_drain_waits_for_another_keeper(place):
    """As long as an earlier keeper has the captures, nobody says that there are none."""
    driver = place.driver()
    held = owner.try_lock(place.node_root, driver.reference)
    assert held is not None
    place.stage(driver, 3)
    driver.own(epoch=1)
    driver.wait_until(lambda: driver.link.running)
    driver.do(lambda link: link.drain("t1", None))
    driver.do(lambda link: link.drain("t1", 0))
    driver.wait_until(lambda: any("another keeper" in text for text in logged(driver)))
    assert not [event for event in driver.events if isinstance(event, Drained)]
    held.release()
    answers = driver.wait_for(Drained, 2)
    assert {answer.highest_index for answer in answers} == {3}
    (told,) = [event for event in driver.events if isinstance(event, Committed)]
    assert told.index == 3
    assert driver.events.index(told) < driver.events.index(answers[0])


def test_nobody_else_sweeps_what_a_keeper_is_making(tmp_path):
    """Other processes sweep the trials' directories too, for drafts of their own kind."""
    staged = SimpleNamespace(intent=SimpleNamespace(index=3, attempt_id="run-t1-0"))
    script = "import sys; from milepost.checkpoint.collect import sweep; print(sweep(sys.argv[1]))"
    with assemble._new_directory(staged, str(tmp_path)) as draft:
        run = [sys.executable, "-c", script, str(tmp_path)]
        assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"
        assert os.path.isdir(draft)


def logged(driver):
    """What its keeper has logged."""
    with open(os.path.join(os.path.dirname(driver.link.address), "log")) as file:
        return file.read().splitlines()


def test_driver_and_keeper_are_killed(place, first_run):
    """The new keeper commits what was captured, tells of it with its row, and knows each number."""
    child, address = first_run
    own = place.driver()
    capturer = place.capturer(own, keeper_address=address)
    capturer.capture(place.source("first", model=10), 0, b'{"training_iteration":1}')
    capturer.settled(0)
    word, keeper = child.stdout.readline().split()
    assert word == "Committed"
    os.kill(int(keeper), signal.SIGSTOP)
    for index in (1, 2):
        row = b'{"training_iteration":%d,"loss":0.5}' % (index + 1)
        capturer.capture(place.source(f"source{index}", model=10), index, row)
    os.kill(int(keeper), signal.SIGKILL)
    child.kill()
    child.wait()
    place.wait_until_gone(int(keeper))
    place.stage(own, 5, complete=False)  # a worker died in the middle of this one
    driver = restoring(place)
    answer = drained(driver, "t1", 0)
    told = [event for event in driver.events if isinstance(event, Committed)]
    # The first is told of again where its keeper was stopped before it could clear staging.
    events = [event for event in told if event.index > 0]
    assert [event.index for event in events] == [1, 2]
    assert [bytes(event.row) for event in events] == [
        b'{"training_iteration":2,"loss":0.5}',
        b'{"training_iteration":3,"loss":0.5}',
    ]
    assert all(event.recovered and event.attempt == 0 for event in events)
    assert driver.events.index(events[-1]) < driver.events.index(answer)
    # The number of the incomplete one is spent too: it must never be handed out again.
    assert answer.highest_index == 5
    assert [index for index, _ in committed(place.trial)] == [0, 1, 2]


def test_trials_are_drained_one_by_one(place):
    """Each answer tells of its trial alone, and of all attempts that left something."""
    driver = place.driver()
    place.stage(driver, 0, trial_id="a", trial_dir="a")
    place.stage(driver, 1, trial_id="a", trial_dir="a", attempt=1, attempt_id="second")
    place.stage(driver, 7, trial_id="b", trial_dir="b", complete=False)
    driver.own(epoch=2)
    assert drained(driver, "a", 0).highest_index == 1
    assert drained(driver, "a", 1).highest_index == 1
    assert drained(driver, "b", 0).highest_index == 7
    assert drained(driver, "c", 0).highest_index == -1
    assert sorted(
        (event.trial_id, event.attempt, event.index)
        for event in driver.events
        if isinstance(event, Committed)
    ) == [("a", 0, 0), ("a", 1, 1)]
    assert "its capture by process" in driver.wait_for(Notice)[-1].text


def test_a_capture_that_cannot_be_committed_is_told_before_the_drain_is_over(place):
    """The driver learns which number is lost, and why."""
    driver = place.driver()
    base = place.stage(driver, 3)
    with open(base + ".captured", "r+b") as file:
        file.truncate(os.path.getsize(base + ".captured") - 4)
    driver.own(epoch=2)
    answer = drained(driver, "t1", 0)
    (failed,) = (event for event in driver.events if isinstance(event, CommitFailed))
    assert (failed.trial_id, failed.attempt, failed.index) == ("t1", 0, 3)
    assert driver.events.index(failed) < driver.events.index(answer)
    assert answer.highest_index == 3


def test_nothing_in_staging_needs_no_keeper(place):
    """A restore of a run that left nothing there does not wait for a process to start."""
    driver = restoring(place)
    assert drained(driver, "t1", 0).highest_index == -1
    assert not driver.do(lambda link: link.running)
    assert experiments.is_experiment(place.experiment)
