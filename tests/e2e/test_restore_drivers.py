"""Two drivers want one experiment: one of them runs it, the other changes nothing."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from chaos import audit
from chaos.gates import Gate
from chaos.moments import Moment
from chaos.ordeal import Driver, Ordeal, uncut

MIDDLE = Moment("line", 60)


def first_to_end(drivers: list[Driver]) -> int:
    """Wait until one of the drivers has ended; return its position."""
    poll = select.poll()
    ends = {os.pidfd_open(driver.process.pid): n for n, driver in enumerate(drivers)}
    for end in ends:
        poll.register(end, select.POLLIN)
    ready = poll.poll(60_000)
    for end in ends:
        os.close(end)
    assert ready, "both drivers run on, or wait for each other"
    return ends[ready[0][0]]


def compete(ordeal: Ordeal, do: str) -> tuple[Driver, Driver]:
    """Start two drivers at once; return the one that ran to the end, and the other."""
    starts = [Gate(ordeal.books, f"start-{number}") for number in range(2)]
    inside = Gate(ordeal.books, "inside")
    drivers = []
    for number in range(2):
        ordeal.said["number"] = number
        drivers.append(ordeal.start(do))
    for gate in starts:
        gate.meet()
    for gate in starts:
        gate.open()
    loser = first_to_end(drivers)
    inside.open()  # the winner's trials have waited for this
    return drivers[1 - loser], drivers[loser]


@pytest.mark.parametrize(
    "attempt",
    [*range(2), *(pytest.param(number, marks=pytest.mark.chaos) for number in range(2, 50))],
)
def test_two_restores_at_once(attempt: int, place: Any) -> None:
    """Exactly one runs; the other is told who holds the experiment, and since when."""
    ordeal = Ordeal(place, "function")
    assert ordeal.fit(MIDDLE).come
    winner, loser = compete(ordeal, "restore")
    ordeal.end(winner)
    audit.finished(ordeal)
    said = loser.output.read_text()
    assert loser.process.wait() == 1
    assert "LeaseLostError" in said
    assert f"in use by process {winner.process.pid} on host {os.uname().nodename} since 2" in said


def test_two_new_runs_at_once(place: Any) -> None:
    """Of two runs that choose one name exactly one gets it."""
    ordeal = Ordeal(place, "function")
    winner, loser = compete(ordeal, "fit")
    ordeal.end(winner)
    audit.finished(ordeal)
    assert loser.process.wait() == 1
    assert "ExperimentExistsError" in loser.output.read_text()


def test_a_stopped_driver_keeps_its_experiment(place: Any) -> None:
    """A driver that is stopped, and not dead, is not replaced on its machine; later it goes on."""
    ordeal = Ordeal(place, "function")
    driver = ordeal.start("fit", Moment("append", 100, ("self",), signal=signal.SIGSTOP))
    wait_until_stopped(driver)
    other = ordeal.start("restore")
    assert other.process.wait(60) == 1
    assert f"in use by process {driver.process.pid} on host" in other.output.read_text()
    driver.process.send_signal(signal.SIGCONT)
    ordeal.end(driver)
    audit.finished(ordeal)


@pytest.mark.parametrize(
    "seed",
    [0, *(pytest.param(number, marks=pytest.mark.chaos) for number in range(1, 30))],
)
def test_a_driver_that_continues_too_late(
    seed: int, place: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Replaced while it was stopped, a driver publishes and deletes nothing, and says why."""
    rng = random.Random(f"too late {seed}")
    scenario = rng.choice(["function", "search", "reuse"])
    totals = uncut(type(place)(tmp_path / "uncut"), scenario, tmp_path_factory.getbasetemp())
    event = rng.choice(["append", "driver-operation"])
    # Not before the experiment exists, and not when there is nothing left to do.
    at = rng.randint(totals[event] // 5, totals[event] * 4 // 5)
    ordeal = Ordeal(place, scenario)
    # A node root of its own stands for another machine, which sees the storage only.
    late = ordeal.start(
        "fit",
        Moment(event, at, ("self",), signal=signal.SIGSTOP),
        MILEPOST_NODE_ROOT=str(place.path / "node"),
    )
    wait_until_stopped(late)
    forget_locks(ordeal.experiment)
    ordeal.restore(wait=False)
    published = census(ordeal.experiment)
    assert published  # by the driver that replaced it

    late.process.send_signal(signal.SIGCONT)
    assert late.process.wait(60) == 1
    assert place.wait_until_gone() == {}
    assert "LeaseLostError" in late.output.read_text()
    after = census(ordeal.experiment)
    changed = {n for n in after.keys() | published.keys() if after.get(n) != published.get(n)}
    # Its own journal is closed by what its successor says of it: what comes later is ignored. And
    # an object is named after its bytes; nothing refers to one that was added too late.
    added = {name for name in changed - published.keys() if name.startswith(".milepost/objects/")}
    # What it was just writing had a name that nobody reads, and goes.
    drafts = {name for name in changed - after.keys() if ".milepost-tmp-" in name}
    assert changed - added - drafts <= {".milepost/journal/00000001.jsonl"}
    audit.finished(ordeal, repeated=True)


def wait_until_stopped(driver: Driver) -> None:
    """Wait until a driver is stopped; it must not end before."""
    _, status = os.waitpid(driver.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), driver.output.read_text()


def forget_locks(experiment: Path) -> None:
    """Do to the locks of an experiment what a file system does that does not share them."""
    for name in ("lock", "writer.lock"):
        lock = experiment / ".milepost" / name
        while not lock.exists():  # the process that writes result files may only be starting
            threading.Event().wait(0.01)
        copy = lock.with_name("copy")
        copy.write_bytes(lock.read_bytes())
        copy.replace(lock)


def census(experiment: Path) -> dict[str, bytes]:
    """All files of an experiment."""
    return {
        str(path.relative_to(experiment)): path.read_bytes()
        for path in sorted(experiment.rglob("*"))
        if path.is_file()
    }
