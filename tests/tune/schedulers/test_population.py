"""Populations through the Tuner: results, lineage, replay and bandits."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.journal import records, replay
from milepost.tune.schedulers import PopulationBasedTraining, PopulationBasedTrainingReplay
from milepost.tune.schedulers.pb2 import PB2
from milepost.tune.schedulers.pbt_replay import read_policy

LRS = [1.0, 2.0, 3.0, 4.0]


def save(state: Any) -> tune.Checkpoint:
    directory = tempfile.mkdtemp()
    Path(directory, "state").write_text(json.dumps(state))
    return tune.Checkpoint.from_directory(directory, move=True)


def learn(config: dict[str, Any]) -> None:
    """Weights are the learning rates of all steps."""
    weights: list[float] = []
    if (checkpoint := tune.get_checkpoint()) is not None:
        with checkpoint.as_directory() as directory:
            weights = json.loads(Path(directory, "state").read_text())
    while len(weights) < 8:
        weights.append(config["lr"])
        tune.report({"total": sum(weights), "weights": list(weights)}, checkpoint=save(weights))


def fit(tmp_path: Path, scheduler: Any, *, callbacks: Any = (), **space: Any) -> tune.ResultGrid:
    return tune.Tuner(
        tune.with_resources(learn, {"cpu": 1}),
        param_space=space or {"lr": tune.grid_search(LRS)},
        tune_config=tune.TuneConfig(metric="total", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(
            name="exp",
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=list(callbacks),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()


def population(**options: Any) -> PopulationBasedTraining:
    random.seed(4)
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        hyperparam_mutations={"lr": [1.0, 2.0, 3.0, 4.0, 5.0]},
        synch=True,
        **options,
    )


def stretches_of(result: tune.Result) -> list[float]:
    """The learning rate of each step, as the lineage tells it."""
    found: list[float] = []
    for stretch in reversed(result.lineage()):
        assert stretch.start == len(found)
        found += [stretch.config["lr"]] * (stretch.end - stretch.start)
    return found


@pytest.mark.timeout(120)
def test_lineage_and_replay(tmp_path: Path) -> None:
    """A result tells where its weights come from; its schedule can be trained once more."""
    grid = fit(tmp_path, population())
    assert grid.num_errors == 0
    forked = [result for result in grid if len(result.lineage()) > 1]
    assert forked
    for result in grid:
        assert result.metrics is not None
        assert stretches_of(result) == result.metrics["weights"]
        newest = result.lineage()[0]
        assert newest.checkpoint is not None
        assert newest.checkpoint.path == result.checkpoint.path  # type: ignore[union-attr]
        with result.checkpoint.as_directory() as directory:  # type: ignore[union-attr]
            weights = json.loads(Path(directory, "state").read_text())
        assert weights == result.metrics["weights"], "checkpoint and metrics belong together"
        assert all(stretch.checkpoint_id for stretch in result.lineage())
    stored = tune.ExperimentAnalysis(grid.experiment_path).trials
    for trial, result in zip(stored, grid, strict=True):
        assert trial.checkpoint.path == result.checkpoint.path  # type: ignore[union-attr]
    before = stretches_of(forked[0])
    moved = tmp_path / "moved"
    Path(grid.experiment_path).rename(moved)
    again = tune.Result.from_path(moved / Path(forked[0].path).name)
    assert stretches_of(again) == before
    with pytest.raises(RuntimeError, match="no experiment"):
        forked[0].lineage()

    trial_id = forked[0].metrics["trial_id"]  # type: ignore[index]
    policy = moved / f"pbt_policy_{trial_id}.txt"
    first, changes = read_policy(str(policy))
    assert first is not None
    replayed = fit(tmp_path / "replay", PopulationBasedTrainingReplay(str(policy)), lr=first["lr"])[
        0
    ]
    assert replayed.metrics is not None
    assert replayed.metrics["weights"] == forked[0].metrics["weights"]  # type: ignore[index]
    assert len(replayed.lineage()) == len(changes) + 1


class Fails(tune.Callback):
    """Ends the run with an error at a certain result."""

    def __init__(self, number: int) -> None:
        self.left = number

    def on_trial_result(self, **info: Any) -> None:
        self.left -= 1
        if not self.left:
            raise OSError("no network")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheduler", ["pbt", "pb2"])
def test_restored(scheduler: str, tmp_path: Path) -> None:
    """A run that has failed goes on where it was, with the scheduler that was recorded."""
    if scheduler == "pbt":
        made: Any = population(custom_explore_fn=lambda config: config)
    else:
        made = PB2(
            time_attr="training_iteration",
            perturbation_interval=2,
            hyperparam_bounds={"lr": [0.0, 10.0]},
            synch=True,
        )
    with pytest.raises(tune.TuneError, match="no network"):
        fit(tmp_path, made, callbacks=[Fails(11)])
    path = str(tmp_path / "exp")
    before = sum(isinstance(r, records.Exploited) for _, r in replay.records(path))
    grid = tune.Tuner.restore(path, learn, run_config=tune.RunConfig(callbacks=[])).fit()
    assert grid.num_errors == 0
    assert before >= 1
    policies = (tmp_path / "exp" / "pbt_global.txt").read_text().splitlines()
    found = [r for _, r in replay.records(path) if isinstance(r, records.Exploited)]
    assert [record.policy for record in found] == policies
    assert len(found) > before
    for result in grid:
        assert result.metrics is not None
        assert stretches_of(result) == result.metrics["weights"]


@pytest.mark.timeout(120)
def test_bandits(tmp_path: Path) -> None:
    """PB2 finds out that large values bring most, and stays within bounds; ints stay ints."""
    random.seed(1)
    scheduler = PB2(
        time_attr="training_iteration",
        perturbation_interval=2,
        hyperparam_bounds={"lr": [0.0, 10.0], "model": {"width": [1, 8]}},
        synch=True,
    )
    grid = fit(
        tmp_path,
        scheduler,
        lr=tune.grid_search([1.0, 2.0, 3.0, 4.0]),
        model={"width": 4},
    )
    assert grid.num_errors == 0
    found = [record for _, record in replay.records(grid.experiment_path)]
    configs = [
        json.loads(bytes(record.config))
        for record in found
        if isinstance(record, records.Exploited)
    ]
    assert configs
    for config in configs:
        assert 0 <= config["lr"] <= 10
        assert config["model"]["width"] in range(1, 9)
    assert any(config["lr"] not in LRS for config in configs)


def test_bad_bounds() -> None:
    """Each is refused by name."""
    with pytest.raises(tune.TuneError, match="hyperparam_bounds"):
        PB2()
    with pytest.raises(ValueError, match="'a/b'"):
        PB2(hyperparam_bounds={"a": {"b": [1]}})
    with pytest.raises(ValueError, match="above"):
        PB2(hyperparam_bounds={"a": [2, 1]})
    with pytest.raises(TypeError, match="bounds of 'a/b' must be a number, got 'x'"):
        PB2(hyperparam_bounds={"a": {"b": [0, "x"]}})
    with pytest.raises(TypeError, match=r"hyperparam_bounds.*got 3"):
        PB2(hyperparam_bounds=3)  # type: ignore[arg-type]


# --- replay ------------------------------------------------------------------------------------


def policy_file(tmp_path: Path, *lines: Any) -> str:
    path = tmp_path / "pbt_policy_x.txt"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_policies_are_read_backwards(tmp_path: Path) -> None:
    """What a trial had before it went on from another one, whose past counts, is left out."""
    path = policy_file(
        tmp_path,
        ["c", "d", 1, 1, {"lr": 0}, {"lr": 1}],  # given up: "b" went on from "a" later
        ["b", "a", 4, 4, {"lr": 2}, {"lr": 3}],
        ["e", "b", 6, 8, {"lr": 3}, {"lr": 4}],
    )
    first, changes = read_policy(path)
    assert first == {"lr": 2}
    assert [(change.iteration, change.config["lr"]) for change in changes] == [(4, 3), (8, 4)]
    assert read_policy(policy_file(tmp_path)) == (None, [])


@pytest.mark.parametrize("text", ["{", "[1, 2]", '["a", "b", 1, "x", {}, {}]', '["a"]'])
def test_files_that_are_no_policies(text: str, tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "policy.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"policy\.txt"):
        PopulationBasedTrainingReplay(str(path))
    with pytest.raises(ValueError, match="no policy file"):
        PopulationBasedTrainingReplay(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="cannot be read"):
        PopulationBasedTrainingReplay(tmp_path)
    with pytest.raises(TypeError, match="policy_file must be a path"):
        PopulationBasedTrainingReplay(3)  # type: ignore[arg-type]


def test_replay_of_several_trials(tmp_path: Path) -> None:
    """There is one schedule, for one trial."""
    from acting import Stage

    path = policy_file(tmp_path, ["b", "a", 4, 4, {"lr": 2}, {"lr": 3}])
    stage = Stage(PopulationBasedTrainingReplay(path), "a")
    assert stage.trials["a"].config == {"lr": 2}
    with pytest.raises(ValueError, match="second"):
        stage.add("b")
    with pytest.raises(ValueError, match="param_space"):
        Stage(PopulationBasedTrainingReplay(policy_file(tmp_path)), "a")


def test_replay_waits_for_a_checkpoint(tmp_path: Path, caplog: Any) -> None:
    """A function that reports none at the change goes on as it is until it does."""
    from acting import Stage

    path = policy_file(tmp_path, ["b", "a", 2, 2, {"lr": 2}, {"lr": 3}])
    scheduler = PopulationBasedTrainingReplay(path)
    assert scheduler.config == scheduler.current_config == {"lr": 2}
    stage = Stage(scheduler, "a")
    assert stage.result("a", 1) == "CONTINUE"
    assert stage.result("a", 2, checkpoint_dir_name=None) == "CONTINUE"
    assert "waits for the next one" in caplog.text
    assert stage.result("a", 3, checkpoint_dir_name="checkpoint_000003") == "NOOP"
    stage.adopt()
    assert stage.trials["a"].config == scheduler.current_config == {"lr": 3}
    assert scheduler.config == {"lr": 2}
    stage.choose()
    assert stage.result("a", 4) == "CONTINUE"
