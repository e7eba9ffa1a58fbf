"""The samples of the guide "How to Save and Load Trial Checkpoints", run as scripts.

Each is the guide's text with the import changed and, where it leaves training out, a network that
learns real handwritten digits; below it the guide's claims about it are checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

MODEL = """
import torch
from sklearn.datasets import load_digits
from torch import nn

digits = load_digits()
IMAGES = torch.tensor(digits.data / 16.0, dtype=torch.float32)
LABELS = torch.tensor(digits.target)


class MyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def learn(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        loss = nn.functional.cross_entropy(self.layers(IMAGES), LABELS)
        loss.backward()
        optimizer.step()
        return loss.item()
"""

FUNCTION = """
import os
import tempfile

from milepost import tune
from milepost.tune import Checkpoint


def train_func(config):
    start = 1
    my_model = MyModel()

    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as checkpoint_dir:
            checkpoint_dict = torch.load(os.path.join(checkpoint_dir, "checkpoint.pt"))
            start = checkpoint_dict["epoch"] + 1
            my_model.load_state_dict(checkpoint_dict["model_state"])

    for epoch in range(start, config["epochs"] + 1):
        loss = my_model.learn()
        INTERRUPTION

        metrics = {"metric": 1, "loss": loss, "epoch": epoch, "start": start}
        with tempfile.TemporaryDirectory() as tempdir:
            torch.save(
                {"epoch": epoch, "model_state": my_model.state_dict()},
                os.path.join(tempdir, "checkpoint.pt"),
            )
            tune.report(metrics=metrics, checkpoint=Checkpoint.from_directory(tempdir))


"""

EVERY_THREE = """
import tempfile

from milepost import tune
from milepost.tune import Checkpoint

NUM_EPOCHS = 12
# checkpoint every three epochs.
CHECKPOINT_FREQ = 3


def train_func(config):
    my_model = MyModel()
    for epoch in range(1, config["epochs"] + 1):
        my_model.learn()

        # Report metrics and save a checkpoint
        metrics = {"metric": "my_metric"}
        if epoch % CHECKPOINT_FREQ == 0:
            with tempfile.TemporaryDirectory() as tempdir:
                # Save a checkpoint in tempdir.
                torch.save(my_model.state_dict(), tempdir + "/model.pt")
                tune.report(metrics, checkpoint=Checkpoint.from_directory(tempdir))
        else:
            tune.report(metrics)


tuner = tune.Tuner(train_func, param_space={"epochs": NUM_EPOCHS})
result_grid = tuner.fit()
"""

CLASS = """
import os
import torch
from torch import nn

from milepost import tune


class MyTrainableClass(tune.Trainable):
    def setup(self, config):
        self.model = nn.Sequential(
            nn.Linear(config.get("input_size", 32), 32), nn.ReLU(), nn.Linear(32, 10)
        )

    def step(self):
        STEP

    def save_checkpoint(self, tmp_checkpoint_dir):
        checkpoint_path = os.path.join(tmp_checkpoint_dir, "model.pth")
        torch.save(self.model.state_dict(), checkpoint_path)
        return tmp_checkpoint_dir

    def load_checkpoint(self, tmp_checkpoint_dir):
        checkpoint_path = os.path.join(tmp_checkpoint_dir, "model.pth")
        self.model.load_state_dict(torch.load(checkpoint_path))


"""

LEARN = """loss = nn.functional.cross_entropy(self.model(IMAGES), LABELS)
        return {"loss": loss.item()}"""

#: Prints what a run left behind, for the tests to look at.
SHOW = """
import json as _json
for _result in RESULTS:
    print("RESULT", _json.dumps({
        "path": _result.path,
        "status": "error" if _result.error else "ok",
        "error": str(_result.error),
        "iteration": _result.metrics.get("training_iteration"),
        "metrics": {k: v for k, v in _result.metrics.items() if k != "config"},
        "checkpoint": _result.checkpoint and _result.checkpoint.path,
        "best": [
            (c.path, m.get("training_iteration"), m.get("loss"))
            for c, m in _result.best_checkpoints
        ],
    }))
"""


def results(out: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("RESULT ") for line in out.splitlines() if "RESULT {" in line]
    return [json.loads(line) for line in lines]


def one(out: str) -> dict[str, Any]:
    (result,) = results(out)
    return result


def directories(result: dict[str, Any]) -> list[str]:
    return sorted(p.name for p in Path(result["path"]).iterdir() if "checkpoint" in p.name)


def run(place: Any, code: str, grid: str = "result_grid", exit_code: int = 0) -> str:
    out: str = place.script(MODEL + code + SHOW.replace("RESULTS", grid), code=exit_code)
    return out


def function(interruption: str = "pass") -> str:
    return FUNCTION.replace("INTERRUPTION", interruption)


def test_function_api(place: Any) -> None:
    """Each epoch's checkpoint is at <storage>/<experiment>/<trial>/checkpoint_<number>."""
    out = run(
        place,
        function()
        + 'tuner = tune.Tuner(train_func, param_space={"epochs": 5})\nresult_grid = tuner.fit()\n',
    )
    result = one(out)
    (experiment,) = place.experiments()
    assert Path(result["path"]).parent == experiment
    assert experiment.name.startswith("train_func_")
    assert directories(result) == [f"checkpoint_{n:06d}" for n in range(5)]
    assert result["checkpoint"] == f"{result['path']}/checkpoint_000004"
    assert [iteration for _, iteration, _ in result["best"]] == [1, 2, 3, 4, 5]
    for directory in directories(result):
        assert Path(result["path"], directory, "checkpoint.pt").stat().st_size > 1000


def test_function_api_retry_starts_from_the_latest_checkpoint(place: Any) -> None:
    """When a trial is retried after a failure, get_checkpoint() is its latest checkpoint."""
    out = run(
        place,
        function('if epoch == 4 and start == 1: raise RuntimeError("lost the machine")')
        + """
tuner = tune.Tuner(
    train_func,
    param_space={"epochs": 5},
    run_config=tune.RunConfig(failure_config=tune.FailureConfig(max_failures=1)),
)
result_grid = tuner.fit()
""",
    )
    result = one(out)
    assert result["status"] == "ok"
    assert result["metrics"]["start"] == 4
    assert result["metrics"]["epoch"] == 5
    assert result["iteration"] == 5
    rows = Path(result["path"], "result.json").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4, 5]


def test_function_api_every_three_epochs(place: Any) -> None:
    """A function that saves every three of twelve epochs leaves four checkpoints."""
    result = one(run(place, EVERY_THREE))
    assert directories(result) == [f"checkpoint_{n:06d}" for n in range(4)]
    assert [iteration for _, iteration, _ in result["best"]] == [3, 6, 9, 12]
    assert result["iteration"] == 12


TRIGGERS = """
result_grid = []
for options in OPTIONS:
    tuner = tune.Tuner(
        MyTrainableClass,
        param_space={"input_size": 64},
        run_config=tune.RunConfig(
            stop={"training_iteration": 2},
            checkpoint_config=tune.CheckpointConfig(**options),
        ),
    )
    result_grid += tuner.fit()
"""


def test_class_api_triggers(place: Any) -> None:
    """Periodic checkpoints and the one at the end come when they should, never twice."""
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"checkpoint_frequency": 2}, [2]),
        ({"checkpoint_frequency": 10}, [2]),  # at the end, the default for classes under Tuner
        ({"checkpoint_frequency": 10, "checkpoint_at_end": True}, [2]),
        ({"checkpoint_frequency": 10, "checkpoint_at_end": False}, []),
        ({"checkpoint_frequency": 1, "checkpoint_at_end": True}, [1, 2]),
    ]
    triggers = TRIGGERS.replace("OPTIONS", repr([options for options, _ in cases]))
    found = results(run(place, CLASS.replace("STEP", LEARN) + triggers))
    for (options, iterations), result in zip(cases, found, strict=True):
        assert result["status"] == "ok", options
        assert [iteration for _, iteration, _ in result["best"]] == iterations, options
        assert directories(result) == [f"checkpoint_{n:06d}" for n in range(len(iterations))]
        for directory in directories(result):
            assert Path(result["path"], directory, "model.pth").is_file()


def test_class_api_sample_as_printed(place: Any) -> None:
    """The guide's class, whose step returns nothing, saves at iteration 2."""
    sample = CLASS.replace("STEP", "return {}") + (
        """
tuner = tune.Tuner(
    MyTrainableClass,
    param_space={"input_size": 64},
    run_config=tune.RunConfig(
        stop={"training_iteration": 2},
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2),
    ),
)
result_grid = tuner.fit()
"""
    )
    result = one(run(place, sample))
    assert directories(result) == ["checkpoint_000000"]
    assert result["iteration"] == 2


MANUAL = """
import random


# to be implemented by user.
def detect_instance_preemption():
    choice = random.randint(1, 100)
    # simulating a 1% chance of preemption.
    return choice <= chance


def train_func(self):
    # training code
    result = {"mean_accuracy": "my_accuracy"}
    if detect_instance_preemption():
        result.update(KEY)
    return result


MyTrainableClass.step = train_func
result_grid = []
for chance in (100, 0):
    tuner = tune.Tuner(
        MyTrainableClass,
        run_config=tune.RunConfig(
            stop={"training_iteration": 3},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    result_grid += tuner.fit()
"""


@pytest.mark.parametrize("key", ["should_checkpoint=True", "{tune.result.SHOULD_CHECKPOINT: True}"])
def test_class_api_manual(place: Any, key: str) -> None:
    """A checkpoint is made for each result with should_checkpoint, and only then."""
    code = CLASS.replace("STEP", "return {}") + MANUAL.replace("KEY", key)
    always, never = results(run(place, code))
    assert len(directories(always)) == 3
    assert len(directories(never)) == 0
    assert always["iteration"] == never["iteration"] == 3


SCORES = """
class Scored(tune.Trainable):
    def setup(self, config):
        self.values = iter([5, 3, 4, 1, 2])

    def step(self):
        return {"val": {"loss": next(self.values)}, "loss": -1}

    def save_checkpoint(self, checkpoint_dir):
        return {"iteration": self.iteration}


def scored(config):
    for loss in [5, 3, 4, 1, 2]:
        with tempfile.TemporaryDirectory() as tempdir:
            open(tempdir + "/data", "w").close()
            tune.report(
                {"val": {"loss": loss}, "loss": -1},
                checkpoint=Checkpoint.from_directory(tempdir),
            )


def fit(trainable, **options):
    return tune.Tuner(
        trainable,
        run_config=tune.RunConfig(
            stop={"training_iteration": 5},
            checkpoint_config=tune.CheckpointConfig(**options),
        ),
    ).fit()


every = {"checkpoint_frequency": 1}
keep = {"num_to_keep": 2}
low = {"checkpoint_score_attribute": "val/loss", "checkpoint_score_order": "min"}
high = {"checkpoint_score_attribute": "val/loss", "checkpoint_score_order": "max"}
grids = [
    fit(Scored, **every, **keep),
    fit(scored, **keep),
    fit(Scored, **every, **keep, **low),
    fit(scored, **keep, **low),
    fit(Scored, **every, **keep, **high),
    fit(scored, **keep, **high),
]
"""


def test_the_matrix_of_options_that_both_apis_take(place: Any) -> None:
    """num_to_keep, score attribute and score order work for both APIs, and the latest stays."""
    code = "import tempfile\nfrom milepost import tune\nfrom milepost.tune import Checkpoint\n"
    out = place.script(
        code + SCORES + SHOW.replace("RESULTS", "[result for grid in grids for result in grid]")
    )
    latest, lowest, highest = [3, 4], [4, 3], [2, 0]
    expected = [latest, latest, lowest, lowest, highest, highest]
    found = results(out)
    assert len(found) == 6
    for result, best in zip(found, expected, strict=True):
        assert [int(path[-6:]) for path, _, _ in result["best"]] == best
        assert directories(result) == [f"checkpoint_{n:06d}" for n in sorted({*best, 4})]
        assert result["checkpoint"].endswith("checkpoint_000004")


@pytest.mark.parametrize("option", ["checkpoint_frequency=2", "checkpoint_at_end=True"])
def test_the_matrix_of_options_that_functions_refuse(place: Any, option: str) -> None:
    """checkpoint_frequency and checkpoint_at_end do not work with functions: a ValueError."""
    out = place.script(
        f"""
        from milepost import tune

        def train_func(config):
            tune.report({{"metric": 1}})

        try:
            tune.Tuner(
                train_func,
                run_config=tune.RunConfig(
                    checkpoint_config=tune.CheckpointConfig({option})
                ),
            ).fit()
        except ValueError as error:
            print("REFUSED", error)
        """
    )
    assert "REFUSED" in out
    assert "train_func" in out
    assert not (place.home / "milepost_results").exists()
