"""What searchers, schedulers, stoppers and callbacks know is in the experiment."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from milepost import tune
from milepost.journal.objects import Objects
from milepost.journal.replay import image, records
from milepost.tune.search.basic_variant import BasicVariantGenerator


class Counting(tune.Callback):
    """Has a state."""

    seen = 0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any):
        self.seen += 1

    def get_state(self) -> dict[str, Any]:
        return {"seen": self.seen}


class Unsavable(tune.Callback):
    """Cannot tell its state."""

    def get_state(self) -> dict[str, Any]:
        raise RuntimeError("no idea")


def train(config: dict[str, Any]) -> None:
    tune.report({"x": config["x"]})


def run(tmp_path: Path, **run_config: Any) -> tuple[str, BasicVariantGenerator]:
    search = BasicVariantGenerator(random_state=3)
    grid = tune.Tuner(
        train,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=3, search_alg=search),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0, **run_config),
    ).fit()
    return grid.experiment_path, search


def state_of(path: str, digest: str | None = None) -> dict[str, Any]:
    name = digest or image(path).searched
    assert name is not None
    state: dict[str, Any] = pickle.loads(Objects(path).get(name))
    return state


def test_states_are_saved(tmp_path: Path) -> None:
    """The last record of a finished run has the states of all that have one."""
    stopper = tune.stopper.MaximumIterationStopper(2)
    path, _ = run(tmp_path, callbacks=[Counting()], stop=stopper)
    state = state_of(path)
    name, seen = state["callbacks"][0]
    assert (name, cloudpickle.loads(seen)) == ("Counting", {"seen": 3})
    assert isinstance(cloudpickle.loads(state["stopper"]), tune.stopper.MaximumIterationStopper)
    assert pickle.loads(state["scheduler"]) is not None
    assert list(state["search"]) == ["basic-variant-state-run.json"]


def test_a_search_goes_on_from_its_first_state(tmp_path: Path) -> None:
    """The state saved before the first trial draws the same trials again."""
    path, search = run(tmp_path)
    first = next(r.state for _, r in records(path) if type(r).__name__ == "Searched")
    again = BasicVariantGenerator(random_state=99)
    again._experiments = search._experiments
    again.set_state(pickle.loads(state_of(path, first)["search"]["basic-variant-state-run.json"]))
    drawn = [again.next_trial() for _ in range(3)]
    configs = [trial.config for trial in drawn if trial is not None]
    frame = tune.ExperimentAnalysis(path)
    assert configs == [trial.config for trial in frame.trials]


def test_old_states_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often states are saved, the last two remain, and what is not surely replaced."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    path, _ = run(tmp_path, callbacks=[Counting()])
    saved = [r.state for _, r in records(path) if type(r).__name__ == "Searched"]
    assert len(saved) > 2
    there = {file.name for file in Path(path, ".milepost", "objects").iterdir()}
    assert set(saved[-2:]) <= there
    assert saved[0] not in there


def test_results_tell_what_saving_has_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid says how often states were saved and how long that took, also when read later."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    path, _ = run(tmp_path, callbacks=[Counting()])
    saves = tune.ResultGrid(tune.ExperimentAnalysis(path)).state_saves
    assert saves.count == sum(type(r).__name__ == "Searched" for _, r in records(path)) > 2
    assert 0 < saves.seconds < saves.elapsed_s
    assert saves.share == saves.seconds / saves.elapsed_s


def test_what_cannot_be_saved_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that cannot tell its state costs a warning, not the run."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    with caplog.at_level(logging.WARNING):
        path, _ = run(tmp_path, callbacks=[Unsavable(), Counting()])
    told = [r.getMessage() for r in caplog.records if "cannot be saved" in r.getMessage()]
    assert len(told) == 1
    assert "callback Unsavable" in told[0]
    assert "RuntimeError: no idea" in told[0]
    assert list(state_of(path)["callbacks"]) == [1]
