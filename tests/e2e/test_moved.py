"""Experiments whose directory somebody moves or deletes while the run goes on in it."""

from __future__ import annotations

import shutil

import pytest
from signalling import Start

from milepost.journal import replay

MOVED = """
def train(config):
    n = restored().get("n", 0)
    for n in range(n + 1, 5):
        tune.report({"n": n}, checkpoint=save(n=n))
        if n == 2 and "WAITS" in os.environ:
            say("reported")
            wait("moved")

if "BLIND" in os.environ:  # as with storage that takes long to flush
    from milepost.journal import log, projections
    log._check_fence = lambda *about: None
    projections.Projections.check = lambda self: None

place = os.environ.get("NOW")
if place is None:
    fit(train, {"x": tune.grid_search([1, 2, 3])})
else:
    grid = tune.Tuner.restore(place, train).fit()
    print("RESTORED", [result.metrics["n"] for result in grid], grid.num_errors)
"""


@pytest.mark.parametrize(
    ("how", "env"), [("moved", {}), ("deleted", {}), ("moved", {"BLIND": "1"})]
)
def test_the_end_says_what_happened(start: Start, how: str, env: dict[str, str]) -> None:
    """One error, with what to do next; nothing comes back to life at the old place.

    No trial fails because its checkpoint cannot be committed there.
    """
    driver = start(MOVED, WAITS="1", **env)
    driver.gate("moved")
    driver.heard("reported", 2)
    before = driver.experiment
    now = before.with_name("elsewhere")
    if how == "moved":
        before.rename(now)
    else:
        shutil.copytree(before, now, symlinks=True)
        shutil.rmtree(before)
    driver.open("moved", 2)
    output = driver.end(1)
    last = output[output.index("Traceback") :]
    assert last.count("Traceback") == 1, output
    assert "FileNotFoundError" not in output
    assert f"\nmilepost.errors.JournalError: {before} is gone: " in last
    if how == "moved":
        assert f"was moved to {now} while the run was going on" in last
        assert f"tune.Tuner.restore({str(now)!r}, train).fit()" in last
    else:
        assert "was deleted, or moved to another file system" in last
    assert not before.exists()
    assert driver.place.wait_until_gone() == {}
    driver.place.env["NOW"] = str(now)
    assert "RESTORED [4, 4, 4] 0" in driver.again()
    assert [trial.failures for trial in replay.image(str(now)).trials.values()] == [0] * 3
    assert not before.exists()


def test_another_experiment_at_its_place_is_left_alone(start: Start) -> None:
    """It is not taken for the one of the run, and stays as it is."""
    driver = start(MOVED, WAITS="1")
    driver.gate("moved")
    driver.heard("reported", 2)
    before = driver.experiment
    now = before.with_name("elsewhere")
    before.rename(now)
    other = before / "notes.txt"
    before.mkdir()
    other.write_text("mine")
    driver.open("moved", 2)
    output = driver.end(1)
    assert f"was moved to {now} while the run was going on" in output
    assert other.read_text() == "mine"
    assert not (before / ".milepost").exists()
