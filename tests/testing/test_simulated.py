"""Runs in virtual time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.errors import TuneError
from milepost.testing import Simulation, simulate
from milepost.tune.schedulers import (
    ASHAScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

SCORES = [3, 8, 1, 7, 5, 2, 9, 4, 6]


def never(config: dict[str, Any]) -> None:
    raise AssertionError("a simulation trains nothing")


class Never(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        raise AssertionError("a simulation trains nothing")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        raise AssertionError("nor saves")

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise AssertionError("nor loads")


def curve(config: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
    for number in range(1, 10):
        yield 2.0, {"acc": config["x"] * number}


def simulated(
    path: Path,
    scheduler: TrialScheduler | None,
    *,
    trainable: Any = never,
    scores: list[int] = SCORES,
    slots: int = 1,
    **run: Any,
) -> Simulation:
    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search(scores)},
        tune_config=tune.TuneConfig(metric="acc", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(path), verbose=0, **run),
    )
    return simulate(tuner, curve, slots=slots)


def reached(simulation: Simulation) -> dict[int, int]:
    return {r.config["x"]: r.metrics["training_iteration"] for r in simulation.results}


def test_virtual_time(tmp_path: Path) -> None:
    """Trials that run beside each other take the time of the longest; rows have its times."""
    simulation = simulated(tmp_path, None, slots=3)
    assert simulation.seconds == 3 * 9 * 2.0
    assert simulation.reports == 81
    assert set(reached(simulation).values()) == {9}
    best = simulation.results.get_best_result()
    assert best.config == {"x": 9}
    assert best.metrics["time_total_s"] == 18.0
    assert not simulation.results.errors


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (
            lambda: ASHAScheduler(max_t=9, reduction_factor=3),
            {3: 9, 8: 9, 1: 1, 7: 9, 5: 1, 2: 1, 9: 9, 4: 1, 6: 1},
        ),
        (
            lambda: HyperBandScheduler(max_t=9),
            {3: 9, 8: 9, 1: 9, 7: 9, 5: 3, 2: 3, 9: 9, 4: 3, 6: 9},
        ),
        (lambda: HyperBandForBOHB(max_t=9), {3: 1, 8: 3, 1: 1, 7: 3, 5: 1, 2: 1, 9: 9, 4: 1, 6: 1}),
    ],
    ids=["asha", "hyperband", "bohb"],
)
@pytest.mark.parametrize("trainable", [never, Never])
def test_schedulers(
    scheduler: Any, expected: dict[int, int], trainable: Any, tmp_path: Path
) -> None:
    """They decide as over real workers; what was paused goes on where it was."""
    assert reached(simulated(tmp_path, scheduler(), trainable=trainable)) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: ASHAScheduler(max_t=9, reduction_factor=2),
        lambda: HyperBandScheduler(max_t=9, reduction_factor=2),
        lambda: MedianStoppingRule("training_iteration", grace_period=2),
    ],
    ids=["asha", "hyperband", "median"],
)
def test_it_is_the_same_each_time(make: Any, tmp_path: Path) -> None:
    """Order of events, and so decisions, do not depend on the machine."""
    scores = [(number * 37) % 101 for number in range(40)]
    runs = [
        simulated(tmp_path / str(number), make(), scores=scores, slots=5) for number in range(2)
    ]
    assert reached(runs[0]) == reached(runs[1])
    assert runs[0].seconds == runs[1].seconds
    assert runs[0].reports == runs[1].reports < 9 * 40


def test_stopping_criteria(tmp_path: Path) -> None:
    """Criteria count as ever."""
    simulation = simulated(tmp_path, None, stop={"training_iteration": 2})
    assert set(reached(simulation).values()) == {2}


def test_errors_and_descriptors(tmp_path: Path) -> None:
    """An error of the scheduler ends the run; nothing stays open."""

    class Broken(TrialScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            raise RuntimeError("broken")

    simulated(tmp_path / "first", None, scores=[1])
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(TuneError, match="broken"):
        simulated(tmp_path / "second", Broken())
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (3, r"returned 3 \(int\)"),
        (None, r"returned None"),
        ([3], "has 3 as an iteration"),
        (["ab"], "has 'ab' as"),
        ([(1.0,)], r"has \(1\.0,\) as"),
        ([(1.0, 2.0)], r"has \(1\.0, 2\.0\) as"),
        ([({"acc": 1}, 1.0)], r"has \(\{'acc': 1\}, 1\.0\) as"),
        ([(-1, {"acc": 1})], r"has \(-1, \{'acc': 1\}\) as"),
        ([(1, {"acc": 1}, 2, 3)], r"has \(1, .*, 2, 3\) as"),
    ],
)
def test_curves_that_are_none(told: Any, says: str, tmp_path: Path) -> None:
    """The error names the curve and what it told."""

    def strange(config: dict[str, Any]) -> Any:
        return told

    tuner = tune.Tuner(never, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0))
    with pytest.raises(TuneError, match=f"curve .*strange {says}"):
        simulate(tuner, strange)


@pytest.mark.parametrize(
    ("curve", "slots", "says"),
    [(curve, 0, "slots must be at least 1, got 0"), (curve, "2", "whole number"), (3, 1, "curve")],
)
def test_arguments_that_make_no_sense(curve: Any, slots: Any, says: str, tmp_path: Path) -> None:
    """Each is refused before anything is written."""
    tuner = tune.Tuner(never, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0))
    with pytest.raises((ValueError, TypeError), match=says):
        simulate(tuner, curve, slots=slots)
    assert not list(tmp_path.iterdir())


# --- checkpoints ----------------------------------------------------------------------------------


def learning(
    config: dict[str, Any], steps: tuple[float, ...] = ()
) -> Iterator[tuple[float, dict[str, Any], tuple[float, ...]]]:
    """What was learned is with which rates."""
    while len(steps) < 12:
        steps += (config["lr"],)
        yield 2.0, {"acc": sum(steps), "steps": steps}, steps


class Rows(tune.Callback):
    """Notes what each trial reports."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.rows.setdefault(trial.trial_id, []).append(dict(result))


@pytest.mark.parametrize("trainable", [never, Never])
@pytest.mark.parametrize("synch", [False, True], ids=["async", "synch"])
def test_population(trainable: Any, synch: bool, tmp_path: Path) -> None:
    """Members go on from what others have learned, and each run is the same."""
    told = []
    for number in range(2):
        random.seed(3)
        notes = Rows()
        tuner = tune.Tuner(
            trainable,
            param_space={"lr": tune.grid_search([1.0, 2.0, 3.0, 4.0])},
            tune_config=tune.TuneConfig(
                metric="acc",
                mode="max",
                scheduler=PopulationBasedTraining(
                    time_attr="training_iteration",
                    perturbation_interval=3,
                    hyperparam_mutations={"lr": [1.0, 2.0, 3.0, 4.0]},
                    synch=synch,
                ),
            ),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path), name=str(number), verbose=0, callbacks=[notes]
            ),
        )
        simulation = simulate(tuner, learning, slots=4)
        assert not simulation.results.errors
        assert simulation.seconds >= 24.0  # what is given up is trained again
        assert all(result.metrics["training_iteration"] == 12 for result in simulation.results)
        told.append([[row["steps"] for row in rows] for rows in notes.rows.values()])
        mixed = [
            rows[-1]["steps"] for rows in notes.rows.values() if len(set(rows[-1]["steps"])) > 1
        ]
        assert mixed, "somebody went on from somebody else's"
        for rows in notes.rows.values():
            for row in rows:
                assert len(row["steps"]) == row["training_iteration"]
                assert row["steps"][-1] == row["config"]["lr"]
    assert told[0] == told[1]


def test_a_paused_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Curves with states are begun anew from them."""
    begun: list[Any] = []

    def counted(config: dict[str, Any], state: int = 0) -> Iterator[tuple[float, Any, int]]:
        begun.append((config["x"], state))
        for number in range(state + 1, 10):
            yield 2.0, {"acc": config["x"] * number}, number

    tuner = tune.Tuner(
        never,
        param_space={"x": tune.grid_search(SCORES)},
        tune_config=tune.TuneConfig(metric="acc", mode="max", scheduler=HyperBandForBOHB(max_t=9)),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    simulation = simulate(tuner, counted, slots=1)
    assert reached(simulation) == {3: 1, 8: 3, 1: 1, 7: 3, 5: 1, 2: 1, 9: 9, 4: 1, 6: 1}
    assert sorted(begun) == sorted([*((x, 0) for x in SCORES), (8, 1), (7, 1), (9, 1)])
