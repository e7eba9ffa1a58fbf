"""Runs that are cut off at any moment and restored from what is on record and on disk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import RAW, Driven
from test_machine_random import World

from milepost.api.resume_config import ResumeConfig
from milepost.checkpoint.manifest import Manifest
from milepost.control import events, fates, reconciling
from milepost.control.checkpoints import Capture, Checkpoint
from milepost.control.fates import Fate
from milepost.control.reconciling import Holdings
from milepost.control.resources import request_of
from milepost.journal import image as images
from milepost.journal import records
from milepost.journal.image import RunImage, TrialImage

RESUME = ResumeConfig()


class Cut(World):
    """A world whose driver dies, with everything that it started."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.journal: list[records.AnyRecord] = []

    def cut(self, forgotten: int, silently: set[int]) -> None:
        """Kill the driver, and restore the run.

        Args:
            forgotten: so many records at most were not yet durable when the machine went down.
            silently: which of the captures, by their place, the old keeper committed on its own.
        """
        self.journal += self.m.journal
        while forgotten and self.journal and not _is_durable(self.journal[-1]):
            self.journal.pop()
            forgotten -= 1
        for place, (trial, attempt, index) in enumerate(sorted(self.captured)):
            first = min(i for t, _, i in self.captured if t == trial)
            if place in silently and index == first:  # commits keep their order
                self.captured.discard((trial, attempt, index))
                self.on_disk.setdefault(trial, set()).add(index)
                self.attempts[trial, index] = attempt
        self.workers.clear()
        self.drains, self.deletes, self.verifying = [], [], {}
        self.m = Driven(**self.options)
        self._restore(self._image())

    @property
    def attempts(self) -> dict[tuple[str, int], int]:
        """Which attempt captured a checkpoint."""
        return self.__dict__.setdefault("_attempts", {})

    def _commit(self, trial: str, attempt: int, index: int) -> list[str]:
        self.attempts[trial, index] = attempt
        return super()._commit(trial, attempt, index)

    def _image(self) -> RunImage:
        image = RunImage()
        for seq, record in enumerate(self.journal, 1):
            images.apply(image, seq, record)
        return image

    def _restore(self, image: RunImage) -> None:
        ended: dict[Any, int] = {"TERMINATED": 0, "ERROR": 0}
        coming = []
        for trial in image.trials.values():
            if fates.fate_of(trial, RESUME) is Fate.STAYS:
                ended[trial.status] += 1
            else:
                self.ended.pop(trial.trial, None)
                coming.append(trial)
        self.added = max(self.added, len(image.trials))
        self.ended = {trial: 1 for trial in self.ended if trial in image.trials}
        self.act(self.m(events.RunRestored(at=0, ended=ended, next_order=len(image.trials))))
        for trial in image.trials.values():
            for index in trial.deleting:
                left = events.DeletionLeft(at=0, trial_id=trial.trial, index=index, path="p")
                self.act(self.m(left))
        for trial in sorted(coming, key=lambda each: each.attempts == 0):
            self._take_in(trial)

    def _take_in(self, trial: TrialImage) -> None:
        held = self.on_disk.get(trial.trial, set())
        manifests = {i: self._manifest(trial.trial, i) for i in held}
        recorded = [
            Checkpoint(index=i, path="p", iteration=1, row=RAW)
            for i in sorted(trial.committed.keys() - trial.deleting.keys())
        ]
        inflight = {i: Capture(1, RAW, None) for i in sorted(trial.captured)}
        there = Holdings(manifests, frozenset(held))
        found = reconciling.reconcile(trial, recorded, inflight, there)
        self.act(
            self.m.restored(
                trial.trial,
                order=trial.order,
                request=request_of([{"CPU": 1 + int(trial.trial[1:]) % 2}]),
                status=trial.status,
                goal=fates.goal_of(
                    trial,
                    RESUME,
                    is_done=trial.action == "stop",
                    other_condition=False,
                    asked=None,
                    pauses_count=True,
                ),
                attempt=found.attempt,
                next_index=max(trial.next_index, there.highest + 1),
                failures=trial.failures,
                iteration=trial.iteration,
                checkpoints=found.checkpoints,
                inflight=found.inflight,
                missing=found.missing,
                unclean=True,
                needs_last_save=fates.needs_last_save(trial, saves_at_end=False),
            )
        )
        for index in found.adopted:
            manifest = manifests[index]
            self.act(self.m(reconciling.commit_of("/exp/t", manifest, 0.0, None)))

    def _manifest(self, trial: str, index: int) -> Manifest:
        attempt = self.attempts.get((trial, index), 0)
        return Manifest(id=f"{trial}-{index}", trial=trial, index=index, attempt=attempt)


def _is_durable(record: records.AnyRecord) -> bool:
    """What others have acted upon was durable before."""
    return isinstance(record, records.Deleting | records.Created)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_runs_that_are_cut_and_restored_end_all_the_same(data: st.DataObject) -> None:
    """However often: no index comes twice, nothing needed is deleted, every trial ends once."""
    world = Cut(
        kind=data.draw(st.sampled_from(["function", "class"]), "kind"),
        cpus=data.draw(st.integers(2, 4), "cpus"),
        keep=data.draw(st.sampled_from([None, 1, 2]), "keep"),
        max_failures=data.draw(st.sampled_from([0, 1, -1]), "max_failures"),
        max_concurrent=data.draw(st.sampled_from([None, 1]), "max_concurrent"),
        reuse=data.draw(st.booleans(), "reuse"),
        save_every=data.draw(st.sampled_from([0, 1]), "save_every"),
    )
    for _ in range(data.draw(st.integers(1, 3), "lives")):
        for _ in range(data.draw(st.integers(0, 30), "steps")):
            choices = world.choices(calm=False)
            if not choices:
                break
            _, happen = data.draw(st.sampled_from(choices), "event")
            world.act(happen())
        ending = data.draw(st.sampled_from(["", "", "stop all", "interrupt"]), "ending")
        if ending:
            world.act(getattr(world.m, ending.replace(" ", "_"))())
        forgotten = data.draw(st.integers(0, 3), "forgotten")
        world.cut(forgotten, data.draw(st.sets(st.integers(0, 3), max_size=3), "silently"))
    world.act(world.m.search_ended())
    for _ in range(1000):
        choices = world.choices(calm=True)
        if world.m.machine.is_over or not choices:
            break
        world.act(choices[0][1]())
    assert world.m.machine.is_over, world.m.machine.state
    assert len(world.ended) == world.m.machine.state.created == world.added
    assert not world.m.machine.trials
    assert not world.captured
    world.journal += world.m.journal
    for trial in world._image().trials.values():
        assert world.on_disk.get(trial.trial, set()) <= trial.committed.keys(), "all are on record"


@pytest.mark.parametrize("by", ["budget", "stopper"])
def test_what_stops_the_run_is_recorded_for_those_that_it_cuts_short(by: Any) -> None:
    """Not for a trial that returned, or was told before to stop, or failed."""
    driven = Driven(cpus=4)
    driven.running("working", "returning", "ending", "failing")
    driven.add("waiting")
    driven.reported(2, "stop")
    driven(events.StopAll(at=0, by=by))
    driven.reported(0)
    driven.finished(0, "stop")
    driven.finished(1, "returned")
    driven.finished(2, "stop")
    driven.failed(3)
    driven(events.Drained(at=0, trial_id="failing", attempt=0, highest_index=-1))
    ends = {
        record.trial: (record.status, record.cut_by)
        for record in driven.journal
        if isinstance(record, records.Changed)
    }
    assert ends == {
        "working": ("TERMINATED", by),
        "waiting": ("TERMINATED", by),
        "returning": ("TERMINATED", ""),
        "ending": ("TERMINATED", ""),
        "failing": ("ERROR", ""),
    }


def test_a_trial_that_was_to_end_anyway_is_not_cut_short() -> None:
    """It was being killed because it did not stop when it was told to."""
    driven = Driven()
    driven.running("a")
    driven.reported(0, "stop")
    driven(events.Overdue(at=0, trial_id="a"))
    driven(events.StopAll(at=0, by="budget"))
    driven.gone(0)
    driven(events.Drained(at=0, trial_id="a", attempt=0, highest_index=-1))
    (end,) = [r for r in driven.journal if isinstance(r, records.Changed)][-1:]
    assert (end.status, end.cut_by) == ("TERMINATED", "")
