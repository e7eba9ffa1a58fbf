"""Reports in whose decision nobody has a say: they are not waited for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from milepost.worker.protocol import Attend, Finished, Preempt, Reply, Reported
from milepost.worker.session import report


def awaited(worker: Any) -> list[bool]:
    return [message.awaited for message in worker.messages if isinstance(message, Reported)]


def test_only_judged_ones_are_awaited(drive: Any) -> None:
    """A run says which it is."""

    def train(config: dict[str, Any]) -> None:
        for n in range(3):
            report({"n": n})

    driver = drive(train)
    assert awaited(driver.run(judged=True)) == [True] * 3
    ahead = driver.run(judged=False)
    assert awaited(ahead) == [False] * 3
    assert [row["n"] for row in ahead.rows] == [0, 1, 2]
    assert ahead.end == Finished("returned")


def test_a_result_that_is_done_is_awaited(drive: Any) -> None:
    """The user's own ``done`` stops the trial in that report."""

    def train(config: dict[str, Any]) -> None:
        report({"n": 0})
        report({"n": 1, "done": True})
        print("beyond")

    worker = drive(train).run(
        judged=False, decide=lambda row: Reply("stop" if row["done"] else "continue")
    )
    assert awaited(worker) == [False, True]
    assert worker.end == Finished("stop")
    assert "beyond" not in worker.stdout


@pytest.mark.parametrize("message", [Attend(), Preempt("SIGTERM")])
def test_they_are_awaited_once_the_trial_is_to_stop(
    drive: Any, message: Any, tmp_path: Path
) -> None:
    """Then the next report, with the last checkpoint perhaps, is the one that stops it."""
    told = tmp_path / "told"

    def train(config: dict[str, Any]) -> None:
        report({"n": 0})
        while not told.exists():
            threading.Event().wait(0.005)
        report({"n": 1})
        print("beyond")

    def decide(row: dict[str, Any]) -> Reply:
        worker.handle.channel.send(message)
        told.touch()
        return Reply("stop")

    driver = drive(train)
    worker = driver.start(decide)
    driver.send_trial(worker, judged=False)
    driver.wait(lambda: worker.end is not None)
    assert awaited(worker) == [False, True]
    assert worker.end == Finished("stop")
    assert "beyond" not in worker.stdout
