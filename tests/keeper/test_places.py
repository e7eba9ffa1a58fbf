"""Experiments that were renamed, moved or copied, and what was captured for them before."""

from __future__ import annotations

import os
import shutil

from milepost.checkpoint.verify import committed
from milepost.keeper import intent as intents
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.place import ensure_place
from milepost.keeper.protocol import CommitFailed, Committed, Notice, Released


def indices(place) -> list[int]:
    return [index for index, _ in committed(place.trial)]


def settle(driver) -> list[int]:
    """Own and release; which indices were committed."""
    driver.own(epoch=2)
    driver.do(lambda link: link.release())
    driver.wait_for(Released)
    return [event.index for event in driver.events if isinstance(event, Committed)]


def renamed(place, name: str) -> None:
    """Rename the experiment's directory."""
    target = str(place.path / "storage" / name)
    os.rename(place.experiment, target)
    place.experiment, place.trial = target, os.path.join(target, "trial")


def notices(driver) -> str:
    return "\n".join(event.text for event in driver.events if isinstance(event, Notice))


def test_a_renamed_experiment_gets_its_captures(place):
    """They are committed where the directory is now, also those staged beside the storage."""
    driver = place.driver()
    storage = os.path.join(str(place.path), "storage", f".milepost-staging-{os.getuid()}")
    ensure_place(place.node_root, storage)
    place.stage(driver, 0)
    place.stage(driver, 1, place=storage)
    old = place.experiment
    renamed(place, "renamed")
    assert settle(place.driver()) == [0, 1]
    assert indices(place) == [0, 1]
    assert not os.path.exists(old)
    assert place.staged() == []


def test_an_experiment_whose_storage_was_moved_with_it(place):
    """The staging place in a renamed storage root is found in the new one."""
    driver = place.driver()
    storage = os.path.join(str(place.path), "storage", f".milepost-staging-{os.getuid()}")
    os.mkdir(storage, 0o700)
    place.stage(driver, 0, place=storage)
    os.rename(place.path / "storage", place.path / "elsewhere")
    place.experiment = str(place.path / "elsewhere" / "experiment")
    place.trial = os.path.join(place.experiment, "trial")
    assert settle(place.driver()) == [0]


def test_an_experiment_that_is_renamed_while_it_runs(place, driver):
    """Nothing is committed into the void or thrown away: the next run finds what was captured."""
    capturer = place.capturer(driver)
    capturer.capture(place.source(model=10), 0, b"{}")
    capturer.settled(0)
    renamed(place, "renamed")
    capturer.capture(place.source("other", model=10), 1, b"{}")
    (failed,) = driver.wait_for(CommitFailed)
    assert "stays in staging; if the directory was renamed, restore it" in failed.error
    assert not os.path.exists(place.path / "storage" / "experiment")
    driver.close()
    assert len(place.staged()) == 1
    assert settle(place.driver()) == [1]
    assert indices(place) == [0, 1]


def test_a_copy_leaves_the_captures_of_its_original_alone(place):
    """It does not commit, sweep or report them, and its deletions do not reach them."""
    original = place.driver()
    first = place.stage(original, 0)
    draft = first + ".draft-17"
    open(draft, "w").close()
    source = place.experiment
    place.experiment = str(place.path / "storage" / "copy")
    shutil.copytree(source, place.experiment)
    place.trial = os.path.join(place.experiment, "trial")
    copy = place.driver()
    place.stage(copy, 0)
    assert settle(copy) == [0]
    path = str(place.checkpoint(0))
    copy.own(epoch=2)
    copy.do(lambda link: link.delete("t1", 0, path))
    copy.wait_until(lambda: not os.path.exists(path))
    assert os.path.exists(first + intents.CAPTURED_SUFFIX)
    assert os.path.exists(draft)
    assert notices(copy) == ""
    place.trial = os.path.join(source, "trial")
    assert settle(original) == [0]
    assert indices(place) == [0]


def test_an_experiment_that_was_moved_to_another_file_system(place):
    """It is another directory now: what it had captured is named and kept; numbers are spent."""
    driver = place.driver()
    there = str(place.path / "disk1" / "experiment")
    gone = ExperimentRef(path=there, device=1, inode=2, uuid=driver.reference.uuid)
    bases = [place.stage(driver, index, experiment=gone) for index in (3, 4)]
    place.stage(driver, 0)
    assert settle(driver) == [0]
    told = notices(driver)
    assert f"were captured when this experiment was in {there}, and never committed" in told
    assert "t1/3, t1/4" in told
    for base in bases:
        assert os.path.exists(base + intents.CAPTURED_SUFFIX)
    driver.own(epoch=2)
    driver.do(lambda link: link.drain("t1", 0))
    driver.wait_until(lambda: any(getattr(e, "highest_index", -1) == 4 for e in driver.events))
