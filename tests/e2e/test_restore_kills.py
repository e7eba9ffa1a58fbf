"""Runs that are killed at seeded moments and restored: nothing is lost, repeated or left behind.

Moments are counted events (:mod:`chaos.moments`), so a seed means the same on every machine, as
far as the processes of a run let it. A few seeds run by default, the rest with ``-m chaos``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos import audit, subject
from chaos.moments import Event, Moment, Role
from chaos.ordeal import Ordeal, choose, uncut

Totals = Callable[[str], dict[Event, int]]


@pytest.fixture
def totals(place: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Totals:
    """Return a function that tells how many events an uncut run of a scenario sees."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    return lambda scenario: uncut(type(place)(tmp_path / "uncut"), scenario, shared)


def seeds(some: int, every: int) -> Any:
    """Parametrize by seeds: some always, all with ``-m chaos``."""
    return pytest.mark.parametrize(
        "seed",
        [
            *range(some),
            *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(some, every)),
        ],
    )


def setting(name: str, seed: int) -> tuple[random.Random, str]:
    """The random numbers and the scenario of a seed."""
    return random.Random(f"{name} {seed}"), subject.SCENARIOS[seed % len(subject.SCENARIOS)]


@pytest.mark.parametrize("scenario", subject.SCENARIOS)
def test_without_kills(scenario: str, place: Any) -> None:
    """The audit passes on a run that nobody kills, and restoring it runs nothing again."""
    ordeal = Ordeal(place, scenario)
    ordeal.fit()
    audit.finished(ordeal)
    ordeal.restore()
    assert ordeal.entries(ordeal.phases[-1]) == []
    audit.finished(ordeal)


@seeds(6, 200)
def test_driver(seed: int, place: Any, totals: Totals) -> None:
    """The driver is killed; its keeper may still be at work when the experiment is restored."""
    rng, scenario = setting("driver", seed)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, totals(scenario)), wait=rng.random() < 0.7)
    ordeal.restore()
    audit.finished(ordeal)


@seeds(1, 50)
def test_everything(seed: int, place: Any, totals: Totals) -> None:
    """All processes are killed at once; what was captured is committed by the restoring run."""
    rng, scenario = setting("everything", seed)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, totals(scenario), victims=()))
    ordeal.restore()
    audit.finished(ordeal)


@seeds(1, 50)
def test_driver_and_keeper(seed: int, place: Any, totals: Totals) -> None:
    """The driver and its keeper die together, while workers are in the middle of something."""
    rng, scenario = setting("driver and keeper", seed)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, totals(scenario), victims=("driver", "keeper")))
    ordeal.restore()
    audit.finished(ordeal)


@seeds(1, 50)
def test_worker(seed: int, place: Any, totals: Totals) -> None:
    """A worker dies: the run goes on, and restoring it afterwards runs nothing again."""
    rng, scenario = setting("worker", seed)
    ordeal = Ordeal(place, scenario)
    event = rng.choice(["line", "worker-operation"])
    ordeal.fit(Moment(event, rng.randint(1, totals(scenario)[event]), ("self",)))
    ordeal.restore()
    audit.finished(ordeal)
    assert ordeal.entries(ordeal.phases[-1]) == []


@seeds(1, 50)
def test_keeper(seed: int, place: Any, totals: Totals) -> None:
    """The keeper dies: another one takes over, in the same run."""
    rng, scenario = setting("keeper", seed)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, totals(scenario), victims=("keeper",)))
    ordeal.restore()
    audit.finished(ordeal)
    assert ordeal.entries(ordeal.phases[-1]) == []


@seeds(1, 20)
@pytest.mark.parametrize("role", ["writer", "forkserver"])
def test_other_processes(role: Role, seed: int, place: Any, totals: Totals) -> None:
    """The writer of result files, or the server that forks workers, dies and is replaced."""
    rng, scenario = setting(role, seed)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, totals(scenario), victims=(role,)))
    ordeal.restore()
    audit.finished(ordeal)
    assert ordeal.entries(ordeal.phases[-1]) == []


@seeds(0, 50)
def test_twice(seed: int, place: Any, totals: Totals) -> None:
    """The second kill comes during the restore."""
    rng, scenario = setting("twice", seed)
    everything = totals(scenario)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, everything, victims=rng.choice([(), ("driver",)])), wait=False)
    second = choose(rng, everything, victims=rng.choice([(), ("driver",)]))
    ordeal.restore(second, wait=rng.random() < 0.5)
    ordeal.restore()
    audit.finished(ordeal)


@seeds(1, 60)
def test_while_restoring(seed: int, place: Any, totals: Totals) -> None:
    """The second kill comes before the restoring run has started its first trial."""
    rng, scenario = setting("while restoring", seed)
    everything = totals(scenario)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, everything, events=("line", "hook"), victims=()))
    ordeal.restore(Moment("driver-operation", 1 + seed % 60, rng.choice([(), ("driver",)])))
    ordeal.restore()
    audit.finished(ordeal)


@seeds(0, 20)
def test_again_and_again(seed: int, place: Any, totals: Totals) -> None:
    """Killed each time it is restored, the experiment still comes to its end."""
    rng, scenario = setting("again", seed)
    everything = totals(scenario)
    ordeal = Ordeal(place, scenario)
    ordeal.fit(choose(rng, everything))
    for _ in range(4):
        few = {event: max(1, count // 4) for event, count in everything.items()}
        ordeal.restore(choose(rng, few, victims=rng.choice([(), ("driver",)])), wait=False)
    ordeal.restore()
    audit.finished(ordeal)
