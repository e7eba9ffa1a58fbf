"""Experiments that are restored with something changed: what counts for which trials."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from chaos import changes
from chaos.moments import Moment
from chaos.ordeal import Ordeal

from milepost.journal import replay


class Trial(NamedTuple):
    """What a restored run tells of a trial."""

    config: dict[str, Any]
    status: str
    iterations: int
    version: int


class Changed:
    """An experiment that was cut after its second trial had failed, and went on changed.

    Attributes:
        before: status and iterations of each trial at the cut, by id.
        committed: the newest iteration with a checkpoint at the cut, by id.
        trials: all trials at the end, by id.
        new: ids of trials that were made after the cut.
        output: what the restored run printed.
    """

    def __init__(self, place: Any, change: str) -> None:
        env = {"TUNE_MAX_PENDING_TRIALS_PG": "1"}  # propose trials only when they can start
        ordeal = Ordeal(place, change, changes.__file__)
        assert ordeal.fit(Moment("hook", 1), **env).come
        trials = replay.image(str(ordeal.experiment)).trials
        self.before = {trial: (each.status, each.iteration) for trial, each in trials.items()}
        self.committed = ordeal.phases[-1].committed
        phase = ordeal.restore(**env)
        assert phase.told is not None, ordeal
        self.output = phase.output
        self.entries = ordeal.entries(phase)
        self.trials = {trial: Trial(*rest) for trial, *rest in phase.told}
        self.new = self.trials.keys() - self.before.keys()

    def with_status(self, status: str) -> list[str]:
        """Ids of trials that had a status at the cut."""
        return [trial for trial, (had, _) in self.before.items() if had == status]

    def begun(self) -> set[str]:
        """Ids of trials that ran after the restore."""
        return {entry.trial for entry in self.entries if entry.what == "begin"}

    def most_at_once(self) -> int:
        """How many iterations were computed at the same time after the restore."""
        now = most = 0
        for entry in self.entries:
            now += 1 if entry.what == "begin" else -1
            most = max(most, now)
        return most

    def assert_ended(self, iterations: int = changes.EPOCHS) -> None:
        """All trials but the failed one have so many iterations; what was done stays done."""
        for trial, each in self.trials.items():
            status, done = self.before.get(trial, ("PENDING", 0))
            if status in ("TERMINATED", "ERROR"):
                assert (each.status, each.iterations) == (status, done)
            else:
                assert (each.status, each.iterations) == ("TERMINATED", iterations)
        assert not self.begun() & {*self.with_status("TERMINATED"), *self.with_status("ERROR")}


def drawn(count: int) -> list[float]:
    """What the search draws when nobody interrupts it."""
    rng = np.random.RandomState(changes.SEED)
    return [float(rng.uniform(0, 1, size=1)[0]) for _ in range(count)]


def test_more_samples(place: Any) -> None:
    """More trials are made, and they are those that one long run would have made."""
    changed = Changed(place, "more-samples")
    changed.assert_ended()
    assert [trial.config["x"] for trial in changed.trials.values()] == drawn(12)


@pytest.mark.chaos
def test_fewer_samples(place: Any) -> None:
    """No trial is made beyond the new number; those that exist go on."""
    changed = Changed(place, "fewer-samples")
    changed.assert_ended()
    assert len(changed.trials) == max(5, len(changed.before))


def test_a_later_end(place: Any) -> None:
    """Unfinished and new trials run to the new end; finished ones stay."""
    changed = Changed(place, "longer")
    changed.assert_ended(4)
    assert changed.new


@pytest.mark.chaos
def test_an_earlier_end(place: Any) -> None:
    """Unfinished trials stop at their next report, new ones at the new end."""
    changed = Changed(place, "shorter")
    for trial, each in changed.trials.items():
        status, done = changed.before.get(trial, ("PENDING", 0))
        if status not in ("TERMINATED", "ERROR"):
            newest = max(done, changed.committed.get(trial, 0))
            assert each.status == "TERMINATED"
            assert each.iterations in (newest, newest + 1)
    assert all(changed.trials[trial].iterations == 1 for trial in changed.new)


@pytest.mark.chaos
def test_other_resources(place: Any) -> None:
    """Trials that need all CPUs run one after the other, those from before the cut too."""
    changed = Changed(place, "resources")
    changed.assert_ended()
    assert changed.most_at_once() == 1


@pytest.mark.chaos
def test_other_concurrency(place: Any) -> None:
    """No more trials run at once than the new limit allows."""
    changed = Changed(place, "concurrency")
    changed.assert_ended()
    assert changed.most_at_once() <= 2


@pytest.mark.chaos
def test_failed_trials_go_on(place: Any) -> None:
    """A failed trial goes on from its checkpoint when it is given more retries."""
    changed = Changed(place, "max-failures")
    (failed,) = changed.with_status("ERROR")
    assert changed.trials[failed][1:3] == ("TERMINATED", changes.EPOCHS)
    assert [e.epoch for e in changed.entries if (e.what, e.trial) == ("begin", failed)] == [2]
    assert len(changed.trials) == changes.TRIALS


@pytest.mark.chaos
def test_failed_trials_start_again(place: Any) -> None:
    """A failed trial is replaced by a new one of the same config, which starts from nothing."""
    changed = Changed(place, "restart-errored")
    (failed,) = changed.with_status("ERROR")
    assert failed not in changed.trials
    assert len(changed.trials) == changes.TRIALS
    assert sorted(trial.config["x"] for trial in changed.trials.values()) == sorted(drawn(8))
    assert {trial[1:3] for trial in changed.trials.values()} == {("TERMINATED", changes.EPOCHS)}


@pytest.mark.chaos
def test_unfinished_trials_stay(place: Any) -> None:
    """Trials that are not to go on end as they are; the search goes on."""
    changed = Changed(place, "skip-unfinished")
    assert not changed.begun() & changed.before.keys()
    for trial, (status, done) in changed.before.items():
        expected = "ERROR" if status == "ERROR" else "TERMINATED"
        # A report whose checkpoint was captured counts, though the driver never heard of it.
        newest = max(done, changed.committed.get(trial, 0))
        assert changed.trials[trial][1:3] == (expected, newest)


@pytest.mark.chaos
def test_other_code(place: Any) -> None:
    """Changed code runs, and the difference is said."""
    changed = Changed(place, "code")
    changed.assert_ended()
    assert all(changed.trials[trial].version == 2 for trial in changed.begun())
    assert "code" in changed.output


def test_another_space(place: Any) -> None:
    """New trials come from the new space; those that exist keep their configs."""
    changed = Changed(place, "space")
    changed.assert_ended()
    assert changed.new
    for trial, each in changed.trials.items():
        assert each.config["unit"] == (2 if trial in changed.new else 1)
        assert (each.config["x"] >= 10) == (trial in changed.new)
    assert "uniform" in changed.output
