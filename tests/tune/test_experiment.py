from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost import tune
from milepost.errors import ExperimentExistsError
from milepost.journal import experiment as experiments
from milepost.journal import records
from milepost.journal.log import Journal
from milepost.tune import place, plan, setup
from milepost.tune.resolve import Target, resolve


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


class Saves(tune.Trainable):
    """A class that can save."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing."""


class Plain(tune.Trainable):
    """A class that cannot save."""


def describe(tmp_path: Path, run: Any = train, **options: Any) -> tune.Experiment:
    return tune.Experiment(options.pop("name", "exp"), run, storage_path=tmp_path, **options)


def test_a_spec_becomes_an_experiment(tmp_path: Path) -> None:
    """from_json takes the older dict form and names misspelt entries."""
    spec = {"run": train, "config": {"lr": 1}, "num_samples": 3, "storage_path": str(tmp_path)}
    experiment = tune.Experiment.from_json("exp", spec)
    assert experiment.spec["config"] == {"lr": 1}
    assert experiment.spec["num_samples"] == 3
    assert experiment.run_identifier == "train"
    assert experiment.path == str(tmp_path / "exp")
    with pytest.raises(tune.TuneError, match=r"'num_sample'.*Did you mean 'num_samples'"):
        tune.Experiment.from_json("exp", {**spec, "num_sample": 1})
    with pytest.raises(tune.TuneError, match="no 'run' entry"):
        tune.Experiment.from_json("exp", {"config": {}})


@pytest.mark.parametrize(
    ("trainable", "given", "at_end", "expected"),
    [
        (Saves, None, True, True),
        (Saves, None, False, False),
        (Saves, False, True, False),
        (Plain, None, True, False),
        (Plain, True, False, True),
        (train, None, True, False),
        (train, False, True, False),
    ],
)
def test_checkpoint_at_end_is_decided(
    tmp_path: Path, trainable: Any, given: bool | None, at_end: bool, expected: bool
) -> None:
    """Unset, a class that can save does so under Tuner; functions and tune.run do not."""
    config = tune.CheckpointConfig(checkpoint_at_end=given)
    experiment = describe(tmp_path, trainable, checkpoint_config=config)
    assert experiment.checkpoint_config(at_end=at_end).checkpoint_at_end is expected


def test_trainables_that_handle_checkpoints_themselves(tmp_path: Path) -> None:
    """_handles_checkpoint_freq: False refuses the option, True switches our part off."""

    class Never(Saves):
        """Decides itself."""

        _handles_checkpoint_freq = False

    class Itself(Saves):
        """Saves itself."""

        _handles_checkpoint_freq = True
        _handles_checkpoint_at_end = True

    every = tune.CheckpointConfig(checkpoint_frequency=2)
    with pytest.raises(ValueError, match=r"checkpoint_frequency=2.*'Never'"):
        describe(tmp_path, Never, checkpoint_config=every)
    resolved = describe(tmp_path, Itself, checkpoint_config=every).checkpoint_config(at_end=True)
    assert (resolved.checkpoint_frequency, resolved.checkpoint_at_end) == (0, False)


def test_automatic_names_are_unique_within_a_second(tmp_path: Path) -> None:
    """Experiments whose automatic names collide get numbers."""
    made = [
        place.create_experiment(str(tmp_path), "train_now", trainable="train", automatic=True)
        for _ in range(3)
    ]
    assert [e.name for e in made] == ["train_now", "train_now_2", "train_now_3"]
    assert len({e.uuid for e in made}) == 3


def record(path: Path) -> None:
    """Write what a run writes at its start."""
    stored = experiments.create(str(path), name=path.name, trainable="train")
    journal = Journal.open(stored)
    journal.append(records.Planned(at=1.0, setup=msgspec.Raw(b'{"trainable":"train"}')))
    journal.close("finished")


def test_a_name_in_use(tmp_path: Path) -> None:
    """A name given by the user is never changed, and the error names both ways out."""
    record(tmp_path / "exp")
    path = re.escape(str(tmp_path / "exp"))
    with pytest.raises(ExperimentExistsError, match=rf"Tuner\.restore\('{path}', .*another"):
        place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)


def test_an_experiment_in_which_nothing_was_recorded_is_taken(tmp_path: Path) -> None:
    """Who dies while starting does not block the name."""
    first = place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    Journal.open(first).close("failed")
    again = place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    assert again == first
    live = Journal.open(first)
    with pytest.raises(ExperimentExistsError):
        place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    live.close("failed")


def test_an_automatic_name_avoids_foreign_directories(tmp_path: Path) -> None:
    """A directory that is no experiment is not taken over by an automatic name."""
    (tmp_path / "train_now").mkdir()
    made = place.create_experiment(str(tmp_path), "train_now", trainable="t", automatic=True)
    assert made.name == "train_now_2"
    assert os.listdir(tmp_path / "train_now") == []


@pytest.mark.parametrize(
    ("own", "per_trial", "expected"),
    [
        (None, None, {"CPU": 1.0}),
        (None, {"cpu": 2, "gpu": 0.5}, {"CPU": 2.0, "GPU": 0.5}),
        ({"gpu": 1}, None, {"GPU": 1.0}),
        (lambda config: {"cpu": config["n"]}, None, {"CPU": 3.0}),
    ],
)
def test_resources_of_functions(own: Any, per_trial: Any, expected: dict[str, float]) -> None:
    """with_resources comes first, then resources_per_trial, then one CPU."""

    def sized(config: dict[str, Any]) -> None:
        """Do nothing."""

    target = resolve(sized if own is None else tune.with_resources(sized, own))
    factory = plan.resources_for(target, per_trial)({"n": 3})
    assert factory.required_resources == expected


def test_resources_of_classes() -> None:
    """default_resource_request is asked with the config; both requests together are an error."""

    class Hungry(Plain):
        """Asks for more."""

        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> Any:
            """Ask."""
            return tune.PlacementGroupFactory([{"CPU": config["n"]}, {"GPU": 1}])

    target = Target(Hungry, "Hungry", "class")
    assert plan.resources_for(target, None)({"n": 2}).required_resources == {"CPU": 2.0, "GPU": 1.0}
    with pytest.raises(tune.TuneError, match="Leave one of them out"):
        plan.resources_for(target, {"cpu": 1})({"n": 2})


def test_stop_conditions() -> None:
    """Dicts become criteria; functions and lists become one stopper."""
    from milepost.tune.stopper import MaximumIterationStopper

    assert plan.stop_conditions(None) == (None, None)
    assert plan.stop_conditions({"loss": 1}) == (None, {"loss": 1})
    once = MaximumIterationStopper(1)
    assert plan.stop_conditions(once) == (once, None)
    by_function, _ = plan.stop_conditions(lambda trial_id, result: result["x"] > 1)
    assert by_function is not None
    assert by_function("t", {"x": 2})
    assert not by_function("t", {"x": 1})
    by_list, _ = plan.stop_conditions([once, MaximumIterationStopper(9)])
    assert by_list is not None
    assert by_list("t", {})


def test_callbacks_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_TUNE_CALLBACKS names classes; a bad name is a ValueError that has it."""
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "milepost.tune.Callback, milepost.tune.Callback")
    assert [type(c) for c in plan.callbacks_of_environment()] == [tune.Callback] * 2
    for bad in ("nothing", "milepost.tune.Nothing", "no.such.module.C", "milepost.tune.TuneConfig"):
        monkeypatch.setenv("RAY_TUNE_CALLBACKS", bad)
        with pytest.raises(ValueError, match=repr(bad)):
            plan.callbacks_of_environment()


def test_the_record_of_a_setup(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Plain options are readable; objects are pickled together; what cannot be is said so."""
    import threading

    from milepost.journal.objects import Objects

    class Locked(tune.Callback):
        """Cannot be pickled."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

    experiment = tune.Experiment.of(
        train,
        {"lr": tune.uniform(0, 1), "opt": {"name": "sgd"}},
        tune.TuneConfig(num_samples=2),
        tune.RunConfig(name="exp", storage_path=str(tmp_path), callbacks=[Locked()]),
    )
    stored = place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    said = setup.describe(experiment).stored(stored.path)
    assert said["param_space"]["opt"] == {"name": "sgd"}
    assert said["tune_config"]["num_samples"] == 2
    assert said["run_config"]["name"] == "exp"
    assert said["pickled"]["names"] == ["param_space/lr"]
    held = Objects(stored.path).get_value(said["pickled"]["object"])
    assert isinstance(held["param_space/lr"], type(tune.uniform(0, 1)))
    assert "run_config/callbacks cannot be pickled" in caplog.text


def test_an_experiment_without_trials_is_taken_back(tmp_path: Path) -> None:
    """A run that failed before its first trial leaves the name free; foreign files stay."""
    made = place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    place.discard_if_empty(made)
    assert os.listdir(tmp_path) == []
    made = place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)
    (tmp_path / "exp" / "notes.txt").write_text("mine")
    place.discard_if_empty(made)
    assert os.listdir(tmp_path / "exp") == ["notes.txt"]
    place.create_experiment(str(tmp_path), "exp", trainable="train", automatic=False)


def test_large_constants_are_kept_beside_the_record(tmp_path: Path) -> None:
    """The record of a setup stays short, whatever the search space holds."""
    import numpy as np

    space = {"data": {"x": np.zeros(100_000)}, "names": ["a" * 100] * 1000, "lr": 1}
    experiment = tune.Experiment("exp", train, config=space, storage_path=tmp_path)
    description = setup.describe(experiment)
    assert description.names == ["param_space/data/x", "param_space/names"]
    assert description.said["param_space"]["lr"] == 1
    assert len(repr(description.said)) < 3000
