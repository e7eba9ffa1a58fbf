"""Trials that get other resources while they run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from acting import Actor, Stage

from milepost.api.resources import PlacementGroupFactory, placement_group_of
from milepost.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    ResourceChangingScheduler,
    TrialScheduler,
)
from milepost.tune.schedulers.resource_changing_scheduler import (
    DistributeResources,
    DistributeResourcesToTopJob,
)


class Holder(Actor):
    """A trial that has resources."""

    def __init__(self, trial_id: str, *bundles: dict[str, float]) -> None:
        super().__init__(trial_id)
        self.placement_group_factory = PlacementGroupFactory(bundles)
        self.last_result: dict[str, Any] = {"trial_id": trial_id}

    def update_resources(self, resources: Any) -> None:
        assert self.status != "RUNNING"
        self.placement_group_factory = placement_group_of(resources)

    @property
    def has(self) -> dict[str, float]:
        return self.placement_group_factory.required_resources


class Hall(Stage):
    """A run of such trials."""

    def __init__(self, scheduler: Any, total: dict[str, float], **bundle: float) -> None:
        super().__init__(scheduler)
        self.resources_total = total
        self.bundle: dict[str, float] = bundle or {"CPU": 1}

    def add(self, trial_id: str, *bundles: dict[str, float]) -> None:
        trial = self.trials[trial_id] = Holder(trial_id, *(bundles or (self.bundle,)))
        self.scheduler.on_trial_add(self, trial)

    def run(self, *trial_ids: str) -> None:
        for trial_id in trial_ids:
            self.add(trial_id)
            self.trials[trial_id].status = "RUNNING"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((3,), "base_scheduler must be a TrialScheduler, got 3"),
        (("fifo",), "base_scheduler must be a TrialScheduler, got 'fifo'"),
        ((ASHAScheduler,), r"write AsyncHyperBandScheduler\("),
        ((ASHAScheduler(), 3), "resources_allocation_function must be a function, got 3"),
    ],
)
def test_bad_arguments(arguments: Any, says: str) -> None:
    """What is no scheduler and no function is refused by name."""
    with pytest.raises(TypeError, match=says):
        ResourceChangingScheduler(*arguments)


def test_a_change() -> None:
    """The trial pauses, gets what it is to have once it has paused, and goes on at once."""
    asked = []

    def allocate(control: Any, trial: Any, result: dict[str, Any], scheduler: Any) -> Any:
        asked.append((trial.trial_id, result["x"], scheduler.base_trial_resources.bundles))
        return {"cpu": 3}

    hall = Hall(ResourceChangingScheduler(None, allocate), {"CPU": 8})
    hall.run("a")
    hall.add("waits")
    assert hall.result("a", x=1) == "PAUSE"
    assert asked == [("a", 1, [{"CPU": 1}])]
    assert hall.choose() == "waits"
    hall.settle()
    assert hall.choose() == "a", "although it is paused and others may wait"
    assert hall.trials["a"].has == {"CPU": 3}
    assert hall.result("a", x=2) == "CONTINUE", "it has that already"


def test_a_change_without_room() -> None:
    """It gets the resources, and waits in the queue."""
    hall = Hall(ResourceChangingScheduler(None, lambda *_: {"cpu": 3}), {"CPU": 3})
    hall.run("a", "b")
    hall.slots = 1
    hall.result("a")
    hall.settle()
    assert hall.choose() == "a" or hall.trials["a"].status == "PENDING"
    assert hall.trials["a"].has == {"CPU": 3}


def test_no_change() -> None:
    """None and equal resources change nothing; nor is anything changed without a function."""
    for answer in (None, {"cpu": 1}, PlacementGroupFactory([{"CPU": 1}])):
        hall = Hall(ResourceChangingScheduler(None, lambda *_, a=answer: a), {"CPU": 8})
        hall.run("a")
        assert hall.result("a") == "CONTINUE"


def test_without_a_function(caplog: pytest.LogCaptureFixture) -> None:
    """It does nothing, and says so."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        hall = Hall(ResourceChangingScheduler(resources_allocation_function=None), {"CPU": 8})
    assert "changes no resources" in caplog.text
    hall.run("a")
    assert hall.result("a") == "CONTINUE"


def test_the_other_scheduler_decides() -> None:
    """Only a trial that would go on gets other resources; hooks and properties are handed on."""
    base = ASHAScheduler(reduction_factor=2)
    scheduler = ResourceChangingScheduler(base, lambda *_: {"cpu": 2})
    assert scheduler.set_search_properties("acc", "max")
    assert (scheduler.metric, scheduler.mode) == ("acc", "max")
    assert not scheduler.set_search_properties("acc", "max")
    hall = Hall(scheduler, {"CPU": 8})
    hall.run("a", "b")
    assert hall.result("a", acc=2) == "PAUSE"
    assert hall.result("b", acc=1) == "STOP"
    assert set(base._bracket_of) == {"a"}
    assert "AsyncHyperBand" in scheduler.debug_string()
    assert scheduler.supports_buffered_results
    assert isinstance(ResourceChangingScheduler()._base_scheduler, FIFOScheduler)


def test_a_trial_that_fails_before_it_has_paused() -> None:
    """What it was to have is forgotten; its next result asks anew."""
    hall = Hall(ResourceChangingScheduler(None, lambda *_: {"cpu": 2}), {"CPU": 8})
    hall.run("a", "b")
    assert hall.result("a") == "PAUSE"
    hall.fail("a", again=True)
    assert hall.choose() == "a"
    assert hall.trials["a"].has == {"CPU": 1}
    assert hall.result("a") == "PAUSE"


def test_trials_must_begin_alike() -> None:
    """Another beginning is an error; a changed trial that comes back is not."""
    hall = Hall(ResourceChangingScheduler(None, lambda *_: {"cpu": 2}), {"CPU": 8})
    hall.run("a")
    hall.result("a")
    hall.settle()
    assert hall.choose() == "a"
    hall.fail("a", again=True)
    with pytest.raises(RuntimeError, match=r"trial b asks for .*2.* the first one asked for .*1"):
        hall.add("b", {"CPU": 2})


def test_workers_that_are_reused() -> None:
    """Their resources are fixed, so that both cannot be had."""
    with pytest.raises(ValueError, match="reuse_actors"):
        ResourceChangingScheduler().set_search_properties("acc", "max", reuse_actors=True)


def test_state(tmp_path: Path) -> None:
    """Any function can be used: it is not part of the state, which is the other scheduler's too."""
    one = ResourceChangingScheduler(ASHAScheduler(metric="acc", mode="max"), lambda *_: {"cpu": 2})
    hall = Hall(one, {"CPU": 8})
    hall.run("a")
    hall.result("a", acc=1)
    one.save(str(tmp_path / "state"))
    other = ResourceChangingScheduler(ASHAScheduler(metric="acc", mode="max"), lambda *_: None)
    other.restore(str(tmp_path / "state"))
    hall.scheduler = other
    hall.settle()
    assert hall.choose() == "a"
    assert hall.trials["a"].has == {"CPU": 2}
    assert hall.result("a", acc=1) == "CONTINUE"


def test_a_scheduler_that_pauses_by_itself() -> None:
    """A pause of the other scheduler is its own affair."""

    class Pauses(TrialScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return self.PAUSE

    hall = Hall(ResourceChangingScheduler(Pauses(), lambda *_: {"cpu": 2}), {"CPU": 8})
    hall.run("a")
    assert hall.result("a") == "PAUSE"
    hall.settle()
    assert hall.choose() is None
    assert hall.trials["a"].has == {"CPU": 1}


# --- sharing out ---------------------------------------------------------------------------------


def share(
    distribute: Any, total: dict[str, float], *trial_ids: str, **bundle: float
) -> dict[str, dict[str, float]]:
    """Report for all trials in turn, twice, and tell what each has then."""
    scheduler = ResourceChangingScheduler(None, distribute)
    scheduler.set_search_properties("acc", "max")
    hall = Hall(scheduler, total, **bundle)
    hall.run(*trial_ids)
    for _ in range(2):
        for trial_id in trial_ids:
            hall.result(trial_id, acc=ord(trial_id))
            hall.trials[trial_id].last_result = {"acc": ord(trial_id)}
            if hall.pausing:
                hall.settle()
                hall.choose()
            held: dict[str, float] = {}
            for trial in hall.trials.values():
                for kind, amount in trial.has.items():
                    held[kind] = held.get(kind, 0) + amount
            assert all(amount <= total[kind] + 1e-6 for kind, amount in held.items()), held
    return {trial_id: trial.has for trial_id, trial in hall.trials.items()}


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ({"CPU": 3}, [1, 1, 1]),
        ({"CPU": 6}, [2, 2, 2]),
        ({"CPU": 8}, [3, 3, 2]),  # all is in use; the first ones get the rest
    ],
)
def test_even_shares(total: dict[str, float], expected: list[float]) -> None:
    """Free CPUs are shared evenly."""
    shares = share(DistributeResources(), total, *"abc")
    assert [has["CPU"] for has in shares.values()] == expected


@pytest.mark.parametrize(
    ("options", "total", "bundle", "expected"),
    [
        ({"increase_by": {"CPU": 2}}, {"CPU": 7}, {"CPU": 1}, {"CPU": 3}),
        ({"increase_by_times": 1}, {"CPU": 9}, {"CPU": 1}, {"CPU": 2}),
        ({"increase_by_times": 0}, {"CPU": 9}, {"CPU": 1}, {"CPU": 1}),
        ({"reserve_resources": {"CPU": 3}}, {"CPU": 9}, {"CPU": 1}, {"CPU": 3}),
        ({"reserve_resources": {"CPU": 30}}, {"CPU": 9}, {"CPU": 1}, {"CPU": 1}),
        ({}, {"CPU": 9, "GPU": 4}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 2}),
        (
            {"increase_by": {"CPU": 1, "GPU": 0.5}},
            {"CPU": 4, "GPU": 2},
            {"CPU": 1, "GPU": 0.5},
            {"CPU": 2, "GPU": 1},
        ),
    ],
)
def test_options(
    options: dict[str, Any],
    total: dict[str, float],
    bundle: dict[str, float],
    expected: dict[str, float],
) -> None:
    """Size and number of steps, what stays free, and GPUs before CPUs; never less than the base."""
    assert share(DistributeResources(**options), total, *"ab", **bundle)["a"] == expected


def test_shares_shrink_when_trials_come_and_grow_when_they_end() -> None:
    """A trial gives up what others are due, and takes what has become free."""
    hall = Hall(ResourceChangingScheduler(), {"CPU": 4})
    hall.run("a")
    assert hall.result("a") == "PAUSE"
    hall.settle()
    assert hall.choose() == "a"
    assert hall.trials["a"].has == {"CPU": 4}
    hall.add("b")
    assert hall.result("a") == "PAUSE"
    hall.settle()
    assert hall.choose() == "a"
    assert hall.trials["a"].has == {"CPU": 2}
    assert hall.choose() == "b"
    hall.end("b", {})
    assert hall.result("a") == "PAUSE"
    hall.settle()
    assert hall.choose() == "a"
    assert hall.trials["a"].has == {"CPU": 4}


def test_bundles() -> None:
    """Steps can be bundles of their own; several bundles cannot be enlarged."""
    for distribute, fails in (
        (DistributeResources(add_bundles=True), False),
        (DistributeResources(), True),
    ):
        hall = Hall(ResourceChangingScheduler(None, distribute), {"CPU": 7})
        hall.add("a", {"CPU": 1}, {"CPU": 2})
        hall.trials["a"].status = "RUNNING"
        if fails:
            with pytest.raises(ValueError, match="Use add_bundles=True"):
                hall.result("a")
            continue
        assert hall.result("a") == "PAUSE"
        hall.settle()
        hall.choose()
        bundles = hall.trials["a"].placement_group_factory.bundles
        assert bundles == [{"CPU": 1}, {"CPU": 2}, {"CPU": 2}, {"CPU": 2}]


def test_all_for_the_best() -> None:
    """The best trial gets what is free; when another one is better, it gives it back."""
    shares = share(DistributeResourcesToTopJob(), {"CPU": 8}, *"abc")
    assert [has["CPU"] for has in shares.values()] == [1, 1, 6]
    lowest = DistributeResourcesToTopJob(metric="acc", mode="min")
    scheduler = ResourceChangingScheduler(None, lowest)
    hall = Hall(scheduler, {"CPU": 8})
    hall.run("a", "b")
    hall.trials["b"].last_result = {"acc": 5}
    assert hall.result("a", acc=float("nan")) == "CONTINUE"
    assert hall.result("a") == "CONTINUE"
    assert hall.result("a", acc=4) == "PAUSE"


def test_the_best_by_what() -> None:
    """A metric and a mode are needed."""
    hall = Hall(ResourceChangingScheduler(None, DistributeResourcesToTopJob()), {"CPU": 8})
    hall.run("a")
    with pytest.raises(ValueError, match="needs a metric and a mode"):
        hall.result("a", acc=1)


@pytest.mark.parametrize(
    "options",
    [{"increase_by": {}}, {"increase_by": {"CPU": -1, "GPU": 1}}, {"increase_by_times": -2}],
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    """Each is refused by name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        DistributeResources(**options)
