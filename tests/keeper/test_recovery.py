"""What a keeper finds in staging when it starts, and what it does with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint.verify import committed
from milepost.journal import lease as leases
from milepost.journal.objects import Objects, digest
from milepost.keeper import intent as intents
from milepost.keeper import recovery
from milepost.keeper.intent import ExperimentRef, parse_name
from milepost.keeper.place import captures, ensure_place, staging_places
from milepost.keeper.protocol import Committed, Drained, Notice, Released
from milepost.process import is_alive, started_at


def settle(driver) -> list[int]:
    """Own, drain and release; which indices were committed."""
    driver.own()
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    return [event.index for event in driver.events if isinstance(event, Committed)]


def test_complete_are_committed_in_order_and_others_are_swept(place):
    """Complete captures are committed in the order of their indices; incomplete ones go."""
    driver = place.driver()
    for index in (10, 2, 9, 1):
        place.stage(driver, index)
    place.stage(driver, 11, complete=False)
    assert settle(driver) == [1, 2, 9, 10]
    assert [index for index, _ in committed(place.trial)] == [1, 2, 9, 10]
    assert (place.checkpoint(9) / "model").read_bytes() == b"bytes of 9"
    assert os.listdir(place.node_root) == ["keepers"]


def test_incomplete_ones_of_a_live_process_stay(place):
    """A capture that is under way is nobody else's business."""
    driver = place.driver()
    me = os.getpid()
    base = place.stage(driver, 0, complete=False, pid=me, started=started_at(me))
    driver.own()
    driver.do(lambda link: link.drain("t1", 0))
    assert driver.wait_for(Drained)[0].highest_index == 0
    assert os.path.exists(base + intents.INTENT_SUFFIX)
    assert os.path.exists(base + intents.FILES_SUFFIX)


def test_reused_process_id(place):
    """A process id that belongs to another process now does not keep an incomplete capture."""
    driver = place.driver()
    place.stage(driver, 0, complete=False, pid=os.getpid(), started=1)
    assert settle(driver) == []
    assert place.staged() == []


def test_killed_while_the_intent_was_written(place):
    """Half an intent, or files without one, are swept by the name of their dead process."""
    driver = place.driver()
    cut = place.stage(driver, 0, complete=False)
    with open(cut + intents.INTENT_SUFFIX, "r+b") as file:
        file.truncate(20)
    without = place.stage(driver, 1, complete=False)
    os.unlink(without + intents.INTENT_SUFFIX)
    torn = place.stage(driver, 2)
    with open(torn + intents.CAPTURED_SUFFIX, "r+b") as file:
        file.truncate(30)
    assert settle(driver) == []
    assert place.staged() == []
    removed = [event.text for event in driver.events if isinstance(event, Notice)]
    assert len(removed) == 3
    assert all("before it captured anything" in text for text in removed)


def test_cut_packed_bytes(place):
    """A record whose bytes are not all there fails loudly and publishes nothing."""
    driver = place.driver()
    base = place.stage(driver, 0)
    with open(base + intents.CAPTURED_SUFFIX, "r+b") as file:
        file.truncate(os.path.getsize(base + intents.CAPTURED_SUFFIX) - 1)
    assert settle(driver) == []
    assert committed(place.trial) == []
    assert os.listdir(place.trial) == []


def test_after_a_reboot(place):
    """What was captured but never flushed is not trusted after the machine went down."""
    driver = place.driver()
    place.stage(driver, 0, boot="an earlier boot")
    place.stage(driver, 1)
    assert settle(driver) == [1]
    (notice,) = (event for event in driver.events if isinstance(event, Notice))
    assert "checkpoint 0 of trial t1 was captured but not committed when the machine" in notice.text
    assert place.staged() == []


def test_a_copy_owns_nothing_of_its_original(place):
    """The copy has the same id and another inode: captures stay with the original."""
    driver = place.driver()
    base = place.stage(driver, 0)
    original, copy = place.experiment, str(place.path / "storage" / "copy")
    shutil.copytree(original, copy)
    place.experiment = copy
    other = place.driver()
    assert other.reference.uuid == driver.reference.uuid
    other.own()
    other.do(lambda link: link.release())
    other.wait_for(Released)
    assert os.path.exists(base + intents.CAPTURED_SUFFIX)
    assert not os.path.exists(os.path.join(copy, "trial"))
    assert settle(driver) == [0]
    assert os.listdir(os.path.join(original, "trial")) == ["checkpoint_000000"]


def test_captures_of_other_experiments_are_reported_and_stay(place):
    """They may be the only copy of somebody's work: size, age and what to do is said, once."""
    driver = place.driver()
    mine = place.stage(driver, 0)
    foreign = ExperimentRef(path="/elsewhere/other", device=1, inode=2, uuid="other-uuid")
    base = place.stage(driver, 0, experiment=foreign)
    os.makedirs(os.path.join(place.node_root, "staging", "other-uuid"), mode=0o700)
    for suffix in (intents.CAPTURED_SUFFIX,):
        target = base.replace(driver.reference.uuid, "other-uuid")
        os.rename(base + suffix, target + suffix)
    assert settle(driver) == [0]
    assert not os.path.exists(mine + intents.CAPTURED_SUFFIX)
    assert os.path.exists(target + intents.CAPTURED_SUFFIX)
    (notice,) = (event for event in driver.events if isinstance(event, Notice))
    assert (
        "of experiment /elsewhere/other and never committed: checkpoints: 1, bytes: 10, "
        in notice.text
    )
    waits = os.path.join(place.node_root, "staging", "other-uuid")
    assert f"rm -r {waits}" in notice.text, "its directory is gone"
    assert notice.level == "warning"


def test_a_person_is_told_of_them_once(place):
    """Later keepers on this machine keep it to their own log, until something else is there."""

    def levels() -> list[str]:
        driver = place.driver()
        place.stage(driver, 0)  # for which a keeper is started
        settle(driver)
        return [event.level for event in driver.events if isinstance(event, Notice)]

    mine, place.experiment = place.experiment, str(place.path / "storage" / "other")
    other, place.experiment = place.driver(), mine
    first = place.stage(other, 0)
    assert [levels(), levels()] == [["warning"], []]
    assert os.path.exists(first + intents.CAPTURED_SUFFIX)
    place.stage(other, 1)
    assert [levels(), levels()] == [["warning"], []]
    shutil.rmtree(other.reference.path)
    assert [levels(), levels()] == [["warning"], []]
    for name in os.listdir(os.path.dirname(first)):
        intents.remove(os.path.join(os.path.dirname(first), os.path.splitext(name)[0]))
    os.rmdir(os.path.dirname(first))
    assert levels() == []
    assert not os.path.exists(os.path.join(place.node_root, "told.json"))


def test_a_note_that_cannot_be_read_is_none(place):
    """It is written anew, and the person is told once more."""
    mine, place.experiment = place.experiment, str(place.path / "storage" / "other")
    other, place.experiment = place.driver(), mine
    place.stage(other, 0)
    Path(place.node_root, "told.json").write_text("{")
    driver = place.driver()
    place.stage(driver, 0)
    settle(driver)
    (notice,) = (event for event in driver.events if isinstance(event, Notice))
    assert notice.level == "warning"


@pytest.mark.parametrize("held", [True, False])
def test_captures_of_live_runs_are_their_own_business(place, held):
    """What another driver on this machine is committing right now is not called forgotten."""
    mine, place.experiment = place.experiment, str(place.path / "storage" / "other")
    other, place.experiment = place.driver(), mine
    lease = leases.acquire(other.reference.path)
    base = place.stage(other, 0)
    if not held:
        lease.release()
    driver = place.driver()
    place.stage(driver, 0)  # for which a keeper is started
    assert settle(driver) == [0]
    notices = [event.text for event in driver.events if isinstance(event, Notice)]
    assert len(notices) == (0 if held else 1)
    assert os.path.exists(base + intents.CAPTURED_SUFFIX)
    lease.release()


def test_every_place_is_looked_at(place):
    """The node root, the storage root, and places that were recorded beside some source."""
    driver = place.driver()
    recorded = str(place.path / "disk" / f".milepost-staging-{os.getuid()}")
    os.mkdir(place.path / "disk")
    ensure_place(place.node_root, recorded)
    ensure_place(place.node_root, recorded)
    storage = str(place.path / "storage" / f".milepost-staging-{os.getuid()}")
    places = staging_places(place.node_root, str(place.path / "storage"))
    assert places == [os.path.join(place.node_root, "staging"), storage, recorded]
    for index, where in enumerate(places):
        place.stage(driver, index, place=where)
    assert settle(driver) == [0, 1, 2]
    assert not os.path.exists(recorded)
    assert not os.path.exists(storage)
    assert os.listdir(place.node_root) == ["keepers"]


def test_abandoned_scratch_is_swept(place, driver):
    """A directory that was handed out to a worker that died is removed; a live one's stays."""
    worker = place.worker(driver, "say(capturer.new_directory())")
    abandoned = worker.stdout.readline().strip()
    worker.wait()
    live = place.capturer(driver).new_directory()
    place.stage(driver, 0)
    assert settle(driver) == [0]
    assert not os.path.exists(abandoned)
    assert os.path.exists(live)


def test_leftovers_of_commits_are_swept_at_take_over(place):
    """From the second epoch on, trials are swept of what a crash had left there."""
    driver = place.driver()
    left = os.path.join(place.trial, ".milepost-tmp-checkpoint_000007-x")
    os.makedirs(left)
    place.stage(driver, 0)
    driver.own(epoch=2)
    driver.wait_for(Committed)
    assert not os.path.exists(left)


def test_objects_of_a_row_are_stored(place):
    """Values that the row refers to are in the experiment before the checkpoint is visible."""
    driver = place.driver()
    value = b"a pickled value"
    row = b'{"value": {"$object": "..."}}'
    place.stage(driver, 0, objects={digest(value): value}, row=msgspec.Raw(row))
    assert settle(driver) == [0]
    assert Objects(place.experiment).get(digest(value)) == value
    ((_, manifest),) = committed(place.trial)
    assert msgspec.json.decode(manifest.metrics) == msgspec.json.decode(row)


def test_experiment_is_gone(place, driver):
    """Checkpoints are never committed into a directory that only has the experiment's name."""
    capturer = place.capturer(driver)
    shutil.move(place.experiment, place.experiment + "-moved")
    os.mkdir(place.experiment)
    capturer.capture(place.source(model=10), 0, b"{}")
    with pytest.raises(Exception, match=r"is not the experiment directory .* started with"):
        capturer.settled(0)
    os.rmdir(place.experiment)
    capturer.capture(place.source("other", model=10), 1, b"{}")
    with pytest.raises(Exception, match=r"experiment directory .* is gone"):
        capturer.settled(1)
    assert not os.path.exists(place.experiment)


def test_names():
    """A capture's name gives back what it was made of; other names are no capture's."""
    name = intents.IntentName("trial.with.dots-1", 1, 22, 0, 333, 4444)
    assert str(name) == "trial.with.dots-1.1.22.0.333-4444"
    assert parse_name(str(name)) == name
    for other in ("t.1.2.3", "t.1.2.3.4", "t.1.2.3.4-", "t.1.2.x.4-5", "scratch-1-2-ab", ""):
        assert parse_name(other) is None


def test_processes():
    """A process is alive while it runs, not as a zombie, and only if it is the same one."""
    with subprocess.Popen(["sleep", "600"]) as child:
        started = started_at(child.pid)
        assert is_alive(child.pid, started)
        assert not is_alive(child.pid, started + 1)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid, started), "it is a zombie now"
    assert not is_alive(child.pid, started)
    assert not is_alive(child.pid, 0)


def test_find_leaves_the_experiment_of_others_alone(place):
    """Looking for one trial does not touch the captures of another."""
    driver = place.driver()
    place.stage(driver, 0, complete=False, trial_id="t2")
    place.stage(driver, 5, trial_id="t1")
    places = staging_places(place.node_root)
    found = recovery.find(places, driver.reference, trial_id="t1")
    assert [staged.intent.index for staged in found.complete] == [5]
    assert found.highest == {"t1": 5}
    assert len(list(captures(places, driver.reference.uuid))) == 2
