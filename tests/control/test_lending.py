"""The machine by tables: resources for trainers that run inside of trials."""

from __future__ import annotations

from machines import BOOM, Driven

from milepost.control import events
from milepost.control.resources import request_of


def used(m: Driven) -> float:
    return m.machine.state.pool.used["CPU"]


def test_the_bundles_of_the_trial_come_first() -> None:
    """Those beside that of its own process; then what is free."""
    m = Driven(cpus=5)
    m.add("t", {"CPU": 1}, {"CPU": 1}, {"CPU": 1})
    m.place()
    m.started(0)
    assert used(m) == 3
    assert m.borrow(0, 1, 1, 1) == ["lend worker-0 0 size=3"]
    assert used(m) == 4
    assert m.borrow(0, 1, number=1) == ["lend worker-0 1 size=1"]
    assert used(m) == 5
    assert m.give_back(0) == []
    assert used(m) == 4
    assert m.give_back(0) == [], "once"
    assert m.borrow(0, 2, number=2) == ["lend worker-0 2 size=0"], "its own are too small"
    m.finished(0)
    m.gone(0)
    assert used(m) == 0


def test_gpus() -> None:
    """Their ids go with them, those of the trial's own bundles first."""
    m = Driven(cpus=4, gpus=("0", "1", "2"))
    m.add("t", {"CPU": 1}, {"CPU": 1, "GPU": 1})
    m.place()
    m.started(0)
    both = request_of([{"CPU": 1, "GPU": 1}] * 2)
    asked = events.BorrowAsked(at=0, worker_id="worker-0", number=0, most=both, least=2)
    assert m(asked) == ["lend worker-0 0 size=2 gpus=0,1"]


def test_as_many_as_there_are() -> None:
    """Between the least and the most."""
    m = Driven(cpus=3)
    m.running("t")
    assert m.borrow(0, 1, 1, 1, 1, least=1) == ["lend worker-0 0 size=2"]


def test_waiting_for_others() -> None:
    """A trial that can still give something back is waited for; nothing new starts before."""
    m = Driven(cpus=3)
    m.running("t", "u")
    assert m.borrow(0, 1) == ["lend worker-0 0 size=1"]
    assert m.borrow(1, 1) == []
    m.add("v")
    assert not m.machine.has_room
    assert m.place() == []
    assert m.give_back(0) == ["lend worker-1 0 size=1"]
    m.finished(0)
    assert m.machine.has_room
    assert m.place() != []


def test_nobody_waits_for_ever() -> None:
    """When all that hold something wait, who asked last is refused; then the others go on."""
    m = Driven(cpus=3)
    m.running("t", "u")
    assert m.borrow(0, 1, 1) == []
    assert m.borrow(1, 1, 1) == ["lend worker-1 0 size=0"]
    told = m.failed(1, BOOM)
    assert "lend worker-0 0 size=2" in told


def test_what_can_never_be() -> None:
    """It is refused at once, also when nobody else holds anything."""
    m = Driven(cpus=2)
    m.running("t")
    assert m.borrow(0, 1, 1) == ["lend worker-0 0 size=0"]


def test_the_end_of_the_run() -> None:
    """Whoever waits is told."""
    for ends in ("interrupt", "stop_all"):
        m = Driven(cpus=3)
        m.running("t", "u")
        m.borrow(0, 1)
        m.borrow(1, 1)
        assert "lend worker-1 0 size=0" in getattr(m, ends)()


def test_who_waits_and_dies() -> None:
    """Is not answered; what it had been lent is free once its process has ended."""
    m = Driven(cpus=3)
    m.running("t", "u")
    m.borrow(0, 1)
    m.borrow(1, 1)
    assert not any(line.startswith("lend") for line in m.gone(1))
    assert used(m) == 2
    m.gone(0)
    assert used(m) == 0
