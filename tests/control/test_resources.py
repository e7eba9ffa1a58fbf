"""Requests, pools and the order in which trials start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.control.queue import StartQueue
from milepost.control.resources import Grant, Pool, Request, request_of


def test_amounts_are_exact() -> None:
    """Ten tenths are one, which floating point does not say."""
    pool = Pool({"CPU": 1})
    tenth = request_of([{"CPU": 0.1}])
    for _ in range(10):
        assert pool.acquire(tenth) is not None
    assert pool.acquire(tenth) is None
    assert pool.used == {"CPU": 1.0}


def test_bundles_add_up() -> None:
    """A request holds all of its bundles; its first is the trial's own process."""
    request = request_of([{"CPU": 1}, {"CPU": 2, "GPU": 1}, {"blue": 0.5}])
    assert str(request) == "CPU 3, GPU 1, blue 0.5"
    assert (request.cpus(0), request.cpus(1)) == (1, 2)
    pool = Pool({"CPU": 3, "blue": 1}, ["a", "b"])
    grant = pool.acquire(request)
    assert grant is not None
    assert (grant.gpu_ids(0), grant.gpu_ids(1)) == (None, ("a",))
    assert pool.used == {"CPU": 3, "blue": 0.5, "GPU": 1}
    pool.release(grant)
    assert pool.used == {"CPU": 0, "blue": 0, "GPU": 0}


def test_an_empty_first_bundle_stays() -> None:
    """The trial's own process may need nothing while others do."""
    request = request_of([{}, {"CPU": 1}])
    assert request.cpus(0) == 0
    assert request_of([]) == request_of([{}])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"CPU": 2}, None),
        ({"GPU": 1.5}, None),
        ({"CPU": 2.1}, "it asks for CPU 2.1, and there is CPU 2, GPU 2 in all"),
        ({"GPU": 3}, "it asks for GPU 3, and there is CPU 2, GPU 2 in all"),
        ({"blue": 1}, "it asks for blue 1, and there is CPU 2, GPU 2 in all"),
    ],
)
def test_what_can_never_be_met(asked: dict[str, float], why: str | None) -> None:
    """The reason names both sides, also while everything is in use."""
    pool = Pool({"CPU": 2}, ["0", "1"])
    pool.acquire(request_of([{"CPU": 2, "GPU": 2}]))
    assert pool.why_never(request_of([asked])) == why


def test_a_fraction_goes_where_the_least_room_is_left() -> None:
    """So that whole GPUs stay free for those that need one."""
    pool = Pool({}, ["a", "b", "c"])
    taken = [pool.acquire(request_of([{"GPU": part}])) for part in (0.5, 0.3, 0.6, 0.2)]
    assert [grant.gpu_ids(0) for grant in taken if grant] == [("a",), ("a",), ("b",), ("a",)]
    whole = pool.acquire(request_of([{"GPU": 1}]))
    assert whole is not None
    assert whole.gpu_ids(0) == ("c",)


_amounts = st.dictionaries(
    st.sampled_from(["CPU", "GPU", "blue"]), st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0]), max_size=3
)


@given(requests=st.lists(st.lists(_amounts, min_size=1, max_size=3), max_size=20), data=st.data())
def test_nothing_is_granted_twice(
    requests: list[list[dict[str, float]]], data: st.DataObject
) -> None:
    """Whatever is taken and given back, in whatever order, all adds up."""
    pool = Pool({"CPU": 3, "blue": 1}, ["a", "b"])
    held: list[Grant] = []
    for bundles in requests:
        grant = pool.acquire(request_of(bundles))
        if grant is not None:
            held.append(grant)
        if held and data.draw(st.booleans()):
            pool.release(held.pop(data.draw(st.integers(0, len(held) - 1))))
        pool.validate(held)
    while held:
        pool.release(held.pop())
    pool.validate([])


SMALL, LARGE = request_of([{"CPU": 1}]), request_of([{"CPU": 4}])


def order(queue: StartQueue, *, small_only: bool = False) -> list[str]:
    """Take out everything that fits, in order."""
    taken: list[str] = []

    def fits(request: Request) -> bool:
        return request == SMALL or not small_only

    while (trial := queue.choose(fits)) is not None:
        queue.discard(trial)
        taken.append(trial)
    return taken


def test_first_come_first_served_across_requests() -> None:
    """The order does not depend on what is asked for."""
    queue = StartQueue()
    for trial, request in (("a", SMALL), ("b", LARGE), ("c", SMALL), ("d", LARGE)):
        queue.add(trial, request)
    queue.add("e", SMALL, in_front=True)
    queue.add("f", LARGE, in_front=True)
    assert len(queue) == 6
    assert order(queue) == ["f", "e", "a", "b", "c", "d"]
    assert len(queue) == 0


def test_overtaking_is_bounded() -> None:
    """One that does not fit is overtaken a number of times; then all wait for it."""
    queue = StartQueue()
    queue.add("large", LARGE)
    for number in range(30):
        queue.add(f"s{number}", SMALL)
    assert order(queue, small_only=True) == [f"s{number}" for number in range(16)]
    assert order(queue)[0] == "large"


def test_taking_out_of_the_middle() -> None:
    """A trial that is stopped while it waits leaves the others in order."""
    queue = StartQueue()
    for trial in "abc":
        queue.add(trial, SMALL)
    queue.discard("b")
    queue.discard("b")
    assert "b" not in queue
    assert list(queue) == ["a", "c"]
    assert order(queue) == ["a", "c"]
