"""Runs that are cut off at any moment and restored from what is on record and on disk."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import RAW, Driven
from test_machine_random import NOTHING, World, evolve, of_population

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
        self.validator = None
        offers = {
            trial_id: (trial.offer.iteration, trial.offer.index)
            for trial_id, trial in self.m.machine.trials.items()
            if trial.offer is not None and trial.offer.iteration is not None
        }
        wanted = [
            (trial_id, trial.adoption.offer.trial_id, trial.adoption.offer.iteration)
            for trial_id, trial in self.m.machine.trials.items()
            if trial.adoption is not None
        ]
        self.m = Driven(**self.options)
        image = self._image()
        self.validated = {  # what was forgotten is done again
            f"{trial.trial}/{index}"
            for trial in image.trials.values()
            for index, each in trial.committed.items()
            if each.outcome is not None
        }
        self.forks = {
            trial.trial: (fork.donor, fork.index, fork.first_index)
            for trial in image.trials.values()
            if (fork := trial.fork) is not None and self._fork(image, trial) is not None
        }
        self._restore(image, offers)
        for target, donor, iteration in wanted:
            self.act(self.m.exploit(target, donor, iteration))

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

    def _restore(self, image: RunImage, offers: dict[str, Any]) -> None:
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
        self.act(
            self.m(
                events.RunRestored(
                    at=0, ended=ended, next_order=len(image.trials), exploits=len(image.exploited)
                )
            )
        )
        for trial in image.trials.values():
            for index in trial.deleting:
                left = events.DeletionLeft(at=0, trial_id=trial.trial, index=index, path="p")
                self.act(self.m(left))
        for trial in sorted(coming, key=lambda each: each.attempts == 0):
            self._take_in(image, trial, offers.get(trial.trial))
        for trial in image.trials.values():
            source = self._fork(image, trial)
            if trial.trial not in self.m.machine.trials and source is not None:
                left = events.ResultLeft(at=0, donor_id=source[0], checkpoint=source[1])
                self.act(self.m(left))
        for trial in image.trials.values():
            if trial.trial not in self.m.machine.trials:
                self._leave(image, trial)

    def _leave(self, image: RunImage, donor: TrialImage) -> None:
        """What an ended trial has kept for others goes, or stays for them."""
        keep = self.options.get("keep")
        kept = sorted(donor.committed.keys() - donor.deleting.keys())
        wanted = {(record.donor, record.index) for record in image.exploited}
        for index in kept[:-keep] if keep else ():
            if (donor.trial, index) in wanted:
                path = f"/exp/{donor.trial}/checkpoint_{index:06d}"
                left = events.CheckpointLeft(at=0, trial_id=donor.trial, index=index, path=path)
                self.act(self.m(left))

    def _fork(self, image: RunImage, trial: TrialImage) -> tuple[str, Checkpoint] | None:
        fork = trial.fork
        if fork is None:
            return None
        donor = image.trials[fork.donor]
        if fork.index not in donor.committed.keys() - donor.deleting.keys():
            return None
        return fork.donor, self._checkpoint(fork.donor, fork.index)

    @staticmethod
    def _checkpoint(trial: str, index: int) -> Checkpoint:
        path = f"/exp/{trial}/checkpoint_{index:06d}"
        return Checkpoint(index=index, path=path, iteration=1, row=RAW)

    def _take_in(
        self, image: RunImage, trial: TrialImage, offered: tuple[int, int | None] | None
    ) -> None:
        held = self.on_disk.get(trial.trial, set())
        manifests = {i: self._manifest(trial.trial, i) for i in held}
        recorded = [
            self._checkpoint(trial.trial, i)
            for i in sorted(trial.committed.keys() - trial.deleting.keys())
        ]
        inflight = {i: Capture(1, RAW, None) for i in sorted(trial.captured)}
        names = frozenset(each.directory for each in manifests.values())
        there = Holdings(manifests, names)
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
                validations=tuple(
                    (each.index, task)
                    for each in found.checkpoints
                    if (task := trial.committed[each.index].awaited) is not None
                ),
                unclean=True,
                needs_last_save=fates.needs_last_save(trial, saves_at_end=False),
                fork=self._fork(image, trial),
                floor=trial.exploits[-1].first_index if trial.exploits else 0,
                generation=len(trial.exploits),
                offered=offered,
            )
        )
        for index in found.adopted:
            manifest = manifests[index]
            self.act(self.m(reconciling.commit_of(f"/exp/{trial.trial}", manifest, 0.0, None)))

    def _manifest(self, trial: str, index: int) -> Manifest:
        attempt = self.attempts.get((trial, index), 0)
        return Manifest(
            id=f"{trial}-{index}",
            trial=trial,
            index=index,
            attempt=attempt,
            validation=self.task(index) or msgspec.UNSET,
        )


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
        validation=data.draw(st.sampled_from([None, NOTHING]), "validation"),
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
    comes_to_its_end(world)


def comes_to_its_end(world: Cut) -> None:
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


@pytest.mark.parametrize("seed", range(40))
def test_a_population_that_is_cut_and_restored(seed: int) -> None:
    """Trials go on from each other's checkpoints all the time, and the driver dies now and then."""
    rng = random.Random(seed)
    world = Cut(**of_population(rng))
    for _ in range(rng.randint(1, 4)):
        evolve(world, rng, 120)
        world.cut(rng.randint(0, 3), {rng.randint(0, 3) for _ in range(rng.randint(0, 3))})
    comes_to_its_end(world)


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
