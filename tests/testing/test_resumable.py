"""``assert_resumable`` finds what a trainable forgets, and lets pass what forgets nothing."""

from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.testing import assert_resumable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("scratch")]

BY = ["retry", "restore"]


def report(state: dict[str, Any], **metrics: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "state.json").write_text(json.dumps(state))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(directory))


def restored() -> dict[str, Any] | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as directory:
        state: dict[str, Any] = json.loads(Path(directory, "state.json").read_text())
        return state


def descend(config: dict[str, Any]) -> None:
    """Momentum and noise; forgets to load what ``config["forgets"]`` names."""
    state = {"step": 0, "weight": 1.0, "momentum": 0.0, "rng": None}
    saved = restored()
    if saved is not None and config.get("forgets") != "everything":
        state |= {k: v for k, v in saved.items() if k != config.get("forgets")}
    if state["rng"] is not None:
        version, numbers, gauss = state["rng"]  # type: ignore[misc]
        random.setstate((version, tuple(numbers), gauss))
    for step in range(state["step"] + 1, config.get("steps", 100) + 1):  # type: ignore[operator]
        noise = random.random()
        state["momentum"] = 0.9 * state["momentum"] + noise * state["weight"]  # type: ignore[operator]
        state["weight"] -= 0.1 * state["momentum"]  # type: ignore[operator]
        state["step"], state["rng"] = step, random.getstate()  # type: ignore[assignment]
        report(state, weight=state["weight"], eval={"noise": noise})


class Descend(tune.Trainable):
    """The same, as a class whose state is a dict."""

    def setup(self, config: dict[str, Any]) -> None:
        self.rng = random.Random(1)
        self.weight, self.momentum = 1.0, 0.0

    def step(self) -> dict[str, Any]:
        self.momentum = 0.9 * self.momentum + self.rng.random() * self.weight
        self.weight -= 0.1 * self.momentum
        done = self.iteration + 1 == self.config.get("steps")
        return {"weight": self.weight, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"weight": self.weight, "momentum": self.momentum, "rng": self.rng}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.weight = checkpoint["weight"]
        if self.config.get("forgets") != "momentum":
            self.momentum = checkpoint["momentum"]
        if self.config.get("forgets") != "rng":
            self.rng = checkpoint["rng"]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("trainable", [descend, Descend])
@pytest.mark.always("descend-restore", "Descend-retry")
def test_a_right_one_passes(trainable: Any, by: Any) -> None:
    """Killed after any iteration, it goes on as if nothing had happened."""
    assert_resumable(trainable, iterations=3, by=by)


@pytest.mark.parametrize(("trainable", "forgets"), [(descend, "momentum"), (Descend, "rng")])
def test_what_is_forgotten_is_noticed(trainable: Any, forgets: str) -> None:
    """The message names iteration, metric, both values and the usual causes."""
    with pytest.raises(AssertionError) as caught:
        assert_resumable(trainable, {"forgets": forgets}, iterations=3, after=[2])
    said = str(caught.value)
    name = trainable.__name__
    resumed, again = (2, 3) if trainable is descend else (1, 2)
    first, second, *_ = said.splitlines()
    assert first == (
        f"{name} is not resumable: killed after iteration 2 and resumed from the checkpoint of "
        f"iteration {resumed}, it reports at iteration {again}:"
    )
    key, _, values = second.strip().partition(": ")
    assert key in ("weight", "eval/noise")
    found, expected = (float(value) for value in values.split(", expected "))
    assert found != expected
    assert "optimizer" in said
    assert "random generator" in said
    assert "began anew" not in said


def test_a_restore_notices_the_same() -> None:
    """What a retry finds, a restore of the killed driver finds too."""
    with pytest.raises(AssertionError, match="is not resumable: killed after iteration 2"):
        assert_resumable(descend, {"forgets": "momentum"}, iterations=3, after=[2], by="restore")


@pytest.mark.chaos
def test_beginning_anew_is_noticed() -> None:
    """A function that ignores its checkpoint is told to load it."""

    def train(config: dict[str, Any]) -> None:
        for step in range(1, 9):
            report({"step": step}, square=step**2)

    with pytest.raises(AssertionError, match=r"began anew.*get_checkpoint\(\)"):
        assert_resumable(train, iterations=3, after=[1])
    with pytest.raises(AssertionError, match="reports at iteration 2:\n  weight: "):
        assert_resumable(descend, {"forgets": "everything"}, iterations=3, after=[1])


@pytest.mark.chaos
def test_a_function_that_ends_by_itself() -> None:
    """It may be killed after its last report too: then nothing is left to do."""
    assert_resumable(descend, {"steps": 2}, iterations=9, after=[1, 2])

    def runs_on(config: dict[str, Any]) -> None:
        step = (restored() or {"step": 0})["step"]
        while True:
            step += 1
            report({"step": step}, step=step)
            if step == 2:
                return

    with pytest.raises(AssertionError, match=r"at iteration 3:\n  training_iteration: 3, expected"):
        assert_resumable(runs_on, iterations=9, after=[2])


def test_a_class_that_ends_by_itself() -> None:
    """A class says ``done``; saving at its end counts as well."""
    assert_resumable(Descend, {"steps": 2}, iterations=9)


@pytest.mark.chaos
def test_checkpoints_are_compared() -> None:
    """Metrics may agree while the checkpoints do not; the message names file and place."""

    def train(config: dict[str, Any]) -> None:
        saved = restored()
        start = saved["step"] if saved else 0
        for step in range(start + 1, 4):
            report({"step": step, "seen": [*range(start + 1, step + 1)]}, step=step)

    with pytest.raises(AssertionError) as caught:
        assert_resumable(train, iterations=3, after=[1])
    said = str(caught.value)
    assert "it has in its checkpoint of iteration 2:" in said
    assert "state.json:seen/0: 2, expected 1" in said
    assert_resumable(train, iterations=3, after=[1], ignore=["state.json:seen"])
    assert_resumable(train, iterations=3, after=[1], ignore=["*.json"])


@pytest.mark.chaos
def test_rare_checkpoints() -> None:
    """Iterations that are run again must be what they were."""

    def train(config: dict[str, Any]) -> None:
        saved = restored()
        step, total = (saved["step"], saved["total"]) if saved else (0, 0)
        while True:
            step += 1
            total += step
            if step % 2 == 0:
                report({"step": step, "total": total}, total=total)
            else:
                tune.report({"total": total})

    assert_resumable(train, iterations=4, after=[1, 3])
    assert_resumable(Descend, iterations=4, after=[3], checkpoint_frequency=2)


@pytest.mark.chaos
def test_two_runs_that_differ_anyway() -> None:
    """What is random in every run is not blamed on the kill."""

    def train(config: dict[str, Any]) -> None:
        rng = random.SystemRandom()
        start = (restored() or {"step": 0})["step"]
        for step in range(start + 1, 4):
            report({"step": step}, step=step, luck=rng.random() if step >= config["from"] else 0)

    for since, where in ((1, "at iteration 1, before any kill"), (2, "at iteration 2")):
        with pytest.raises(AssertionError) as caught:
            assert_resumable(train, {"from": since}, iterations=3, after=[1])
        said = str(caught.value)
        assert "train cannot be compared: two runs of it that were not killed differ" in said
        assert f"{where}:\n  luck: " in said
        assert "Seed every random generator" in said
    assert_resumable(train, {"from": 1}, iterations=2, after=[1], ignore=["luck"])


@pytest.mark.chaos
def test_tolerance() -> None:
    """Small differences are errors, unless they are allowed."""

    def train(config: dict[str, Any]) -> None:
        saved = restored()
        start = saved["step"] if saved else 0
        for step in range(start + 1, 4):
            report({"step": step}, loss=1 + (1e-7 if saved else 0))

    with pytest.raises(AssertionError, match=r"loss: 1\.0000001, expected 1"):
        assert_resumable(train, iterations=2, after=[1])
    assert_resumable(train, iterations=2, after=[1], tolerance=1e-6)


def test_one_that_saves_nothing() -> None:
    """Without a checkpoint nothing can be resumed, however well it starts again."""

    def train(config: dict[str, Any]) -> None:
        for step in range(3):
            tune.report({"step": step})

    with pytest.raises(AssertionError, match="train saves no checkpoint in 3 iterations"):
        assert_resumable(train)


def test_one_that_reports_nothing() -> None:
    """There is nothing to compare."""
    with pytest.raises(AssertionError, match="reports nothing"):
        assert_resumable(lambda config: None)


@pytest.mark.chaos
def test_one_that_fails() -> None:
    """An error without a kill is told as such; one after the resume with its traceback."""

    def train(config: dict[str, Any]) -> None:
        saved = restored()
        for step in range(saved["step"] + 1 if saved else 1, 4):
            if config["always"]:
                raise ValueError("never works")
            report({"step": step}, step=saved["stap"] if saved else step)

    with pytest.raises(AssertionError, match=r"(?s)fails without being killed: .*never works"):
        assert_resumable(train, {"always": True})
    with pytest.raises(AssertionError, match=r"(?s)resumed from .* fails: .*KeyError: 'stap'"):
        assert_resumable(train, {"always": False}, iterations=2, after=[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"by": "restart"}, "'restart'"),
        ({"iterations": 0}, "at least 1"),
        ({"iterations": 2, "after": [2, 5]}, r"cannot be killed after \[2, 5\].*\[1\]"),
        ({"config": {"x": tune.grid_search([1, 2])}}, "2 trials"),
    ],
)
def test_arguments(arguments: dict[str, Any], says: str) -> None:
    """What makes no sense is an error."""
    with pytest.raises(ValueError, match=says):
        assert_resumable(descend, **arguments)


def test_the_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that it sets for its runs are what they were afterwards."""
    monkeypatch.setenv("MILEPOST_NODE_ROOT", "/somewhere")
    before = dict(os.environ)
    with pytest.raises(AssertionError, match="reports nothing"):
        assert_resumable(lambda config: None)
    assert dict(os.environ) == before


@pytest.mark.chaos
def test_registered_names() -> None:
    """A trainable may be given by its registered name."""
    tune.register_trainable("descend-by-name", Descend)
    assert_resumable("descend-by-name", iterations=2, after=[1])
