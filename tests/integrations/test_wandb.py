"""Weights & Biases itself, writing to files."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

wandb = pytest.importorskip("wandb")

from tracked_runs import Cut, train  # noqa: E402

from milepost import tune  # noqa: E402
from milepost.air.integrations.wandb import WandbLoggerCallback, setup_wandb  # noqa: E402
from milepost.errors import TuneError  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of wandb's own
    pytest.mark.timeout(180),
]


@pytest.fixture(autouse=True)
def offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network, nobody who is logged in, and nothing that wandb knows from another test."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def records(path: Path) -> Iterator[Any]:
    """Read what wandb wrote offline: blocks of a log in LevelDB's format."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


class Offline:
    """One run as it lies on disk.

    Attributes:
        run: its own record.
        config: all that it was given.
        history: what was logged, by step.
        artifacts: names.
        exit_code: None if it did not end.
    """

    def __init__(self, path: Path) -> None:
        self.config: dict[str, Any] = {}
        self.history: dict[int, dict[str, Any]] = {}
        self.artifacts: list[str] = []
        self.exit_code: int | None = None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self._update(record.run.config.update)
            elif kind == "config":
                self._update(record.config.update)
            elif kind == "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                self.history[record.history.step.num] = row
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            elif kind == "request" and record.request.HasField("log_artifact"):
                self.artifacts.append(record.request.log_artifact.artifact.name)
            elif kind == "artifact":
                self.artifacts.append(record.artifact.name)

    def _update(self, items: Any) -> None:
        for item in items:
            self.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)


def runs_in(home: Path) -> list[Offline]:
    """All runs, in the order in which they began."""
    return [
        Offline(path) for path in sorted((home / "work" / "wandb").glob("offline-run-*/*.wandb"))
    ]


def test_trials_are_runs(fit: Any, home: Path) -> None:
    """One run per trial with its id, name, group and config; excludes are left out."""
    callback = WandbLoggerCallback("digits", excludes=["valid"], tags=["a"])
    grid = fit([callback], {"lr": tune.grid_search([1.0, 2.0]), "kind": dict})
    runs = {run.run.run_id: run for run in runs_in(home)}
    assert sorted(runs) == sorted(result.metrics["trial_id"] for result in grid)
    for result in grid:
        run = runs[result.metrics["trial_id"]]
        assert run.run.display_name == f"train_{run.run.run_id}"
        assert (run.run.run_group, run.run.project, list(run.run.tags)) == ("exp", "digits", ["a"])
        assert run.config["lr"] == result.config["lr"]
        assert run.config["kind"] == "<class 'dict'>"
        assert run.config["trial_log_path"] == result.path
        assert run.config["hostname"] == result.metrics["hostname"]
        assert [run.history[step]["loss"] for step in (1, 2, 3)] == [
            result.config["lr"] / step for step in (1, 2, 3)
        ]
        assert not any(
            key.startswith(("valid", "config", "note", "done")) for key in run.history[1]
        )
        assert run.exit_code == 0
    assert wandb.run is None


def test_failures_retries_and_checkpoints(fit: Any, home: Path) -> None:
    """A retry is the same run; checkpoints are artifacts; a run of a failed trial has failed."""
    callback = WandbLoggerCallback("digits", upload_checkpoints=True, log_config=True)
    fit(
        [callback],
        {"lr": 1.0, "fails_at": tune.grid_search([2, 3]), "once": tune.grid_search([True, False])},
        failure_config=tune.FailureConfig(max_failures=1),
    )
    runs = runs_in(home)
    assert len(runs) == 4
    assert sorted(run.exit_code or 0 for run in runs) == [0, 0, 1, 1]
    for run in runs:
        saved = len([step for step in run.history if "loss" in run.history[step]])
        assert saved == (3 if run.exit_code == 0 else run.config["fails_at"] - 1)
        assert run.artifacts == [f"checkpoint_train_{run.run.run_id}"] * saved


def test_a_restored_trial_keeps_its_id(
    fit: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts are written for one run, which is marked as killed in between."""
    callback = WandbLoggerCallback("digits")
    with pytest.raises(TuneError, match="RuntimeError: cut"):
        fit([callback, Cut(3)], {"lr": 1.0, "steps": 4})
    monkeypatch.setattr(Cut, "on_trial_result", lambda self, **info: None)
    tune.Tuner.restore(str(home / "results" / "exp"), train).fit()
    first, second = runs_in(home)
    assert first.run.run_id == second.run.run_id
    assert (first.exit_code, second.exit_code) == (255, 0)
    assert set(first.history) | set(second.history) == {1, 2, 3, 4}


def test_arrays(home: Path) -> None:
    """Arrays become images, batches of images and videos; what cannot be shown is left out."""
    callback = WandbLoggerCallback("digits", image_kwargs={"caption": "c"})
    image = callback._shown(np.zeros((4, 4, 3), dtype=np.uint8))
    assert (type(image), image._caption) == (wandb.Image, "c")
    batch = callback._shown(np.zeros((2, 4, 4, 3), dtype=np.uint8))
    assert [type(one) for one in batch] == [wandb.Image, wandb.Image]
    assert callback._shown(np.float32(0.5)) == 0.5
    assert callback._shown(np.array([3])) == 3
    assert callback._shown(wandb.Histogram([1, 2])) is not None
    assert callback._shown("text") is None
    assert callback._shown(np.zeros(5)) is None


def test_a_tracker_that_throws(
    fit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The experiment ends well, and what is missing is told."""

    def broken(**options: Any) -> None:
        raise ConnectionError("no route to wandb")

    monkeypatch.setattr(wandb, "init", broken)
    with caplog.at_level("WARNING", logger="milepost.integrations"):
        grid = fit([WandbLoggerCallback("digits")], {"lr": 1.0})
    assert grid.num_terminated == 1
    said = [r.getMessage() for r in caplog.records if r.name == "milepost.integrations"]
    assert "could not begin the run of train_" in said[0]
    assert "no route to wandb" in said[0]
    assert "lacks a part of this run" in said[-1]


# --- key and project ----------------------------------------------------------------------------


def ready(callback: WandbLoggerCallback) -> WandbLoggerCallback:
    callback.setup()
    callback.on_experiment_end([])
    return callback


def location_hook() -> None:
    os.environ["WANDB_PROJECT_NAME"] = "from the hook"


def key_hook() -> str:
    return "k" * 40


def run_hook(run: Any) -> None:
    run.config.update({"hook": "called"})


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    import sys
    from types import SimpleNamespace

    module = SimpleNamespace(location=location_hook, key=key_hook, run=run_hook)
    monkeypatch.setitem(sys.modules, "milepost_test_hooks", module)  # type: ignore[arg-type]
    return module


def test_the_project(fit: Any, monkeypatch: pytest.MonkeyPatch, hooks: Any) -> None:
    """It comes from the argument, the environment or the hook; without one nothing runs."""
    with pytest.raises(TuneError, match="does not know the project"):
        fit([WandbLoggerCallback()], {"lr": 1.0})
    monkeypatch.setenv("WANDB_GROUP_NAME", "group")
    assert ready(WandbLoggerCallback("mine")).project == "mine"
    monkeypatch.setenv("WANDB_PROJECT_NAME", "environment")
    callback = ready(WandbLoggerCallback())
    assert (callback.project, callback.group) == ("environment", "group")
    monkeypatch.delenv("WANDB_PROJECT_NAME")
    monkeypatch.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", "milepost_test_hooks.location")
    assert ready(WandbLoggerCallback()).project == "from the hook"
    monkeypatch.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", "milepost_test_hooks.lokation")
    monkeypatch.delenv("WANDB_PROJECT_NAME")
    with pytest.raises(ValueError, match="not the import path"):
        WandbLoggerCallback().setup()


def test_the_key(home: Path, monkeypatch: pytest.MonkeyPatch, hooks: Any) -> None:
    """It comes from the file, the argument, the environment or the hook; else it is an error."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    with pytest.raises(ValueError, match="not both"):
        WandbLoggerCallback("p", api_key="a", api_key_file="b")
    with pytest.raises(ValueError, match="no key for Weights & Biases"):
        WandbLoggerCallback("p").setup()
    monkeypatch.setenv("WANDB_SETUP_API_KEY_HOOK", "milepost_test_hooks.key")
    ready(WandbLoggerCallback("p"))
    assert os.environ["WANDB_API_KEY"] == "k" * 40
    (home / "key").write_text("f" * 40 + "\n")
    ready(WandbLoggerCallback("p", api_key_file="~/key"))
    assert os.environ["WANDB_API_KEY"] == "f" * 40
    callback = ready(WandbLoggerCallback("p", api_key="a" * 40))
    assert os.environ["WANDB_API_KEY"] == "a" * 40
    assert b"aaaa" not in pickle.dumps(callback)
    monkeypatch.delenv("WANDB_API_KEY")


def test_deprecated_argument() -> None:
    """``save_checkpoints`` works, and says what to write."""
    with pytest.warns(DeprecationWarning, match="use upload_checkpoints"):
        assert WandbLoggerCallback("p", save_checkpoints=True).upload_checkpoints


def test_an_older_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has one run per process is refused, with the command."""
    monkeypatch.setattr("milepost.integrations.wandb.version", lambda name: "0.19.1")
    with pytest.raises(ImportError, match=r"pip install -U 'wandb>=0.19.10'"):
        WandbLoggerCallback("p")


# --- in a trial ---------------------------------------------------------------------------------


def train_with_wandb(config: dict[str, Any]) -> None:
    with setup_wandb(config, project="inside", dir=config["dir"], tags=["t"]) as run:
        run.log({"mine": 1.0})
        tune.report({"run": run.id})


def test_setup_wandb(fit: Any, home: Path, monkeypatch: pytest.MonkeyPatch, hooks: Any) -> None:
    """A trial's own run has its id, name and group."""
    directory = home / "work"
    grid = fit([], {"lr": 1.0, "dir": str(directory)}, function=train_with_wandb)
    assert not grid.errors
    (run,) = runs_in(home)
    assert run.run.run_id == grid[0].metrics["run"] == grid[0].metrics["trial_id"]
    assert (run.run.run_group, run.run.project) == ("exp", "inside")
    assert run.config["lr"] == 1.0
    assert run.history[0]["mine"] == 1.0


def test_setup_wandb_outside_of_a_trial(
    home: Path, monkeypatch: pytest.MonkeyPatch, hooks: Any
) -> None:
    """It is wandb's own run then; without a project it is an error."""
    with pytest.raises(ValueError, match="does not know the project"):
        setup_wandb({})
    monkeypatch.setenv("WANDB_PROCESS_RUN_INFO_HOOK", "milepost_test_hooks.run")
    run = setup_wandb({"a": 1}, project="alone")
    assert dict(run.config) == {"a": 1, "hook": "called"}
    run.finish()
