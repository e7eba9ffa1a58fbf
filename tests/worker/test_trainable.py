"""``Trainable`` by itself, without a controller."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.checkpoint.handle import Checkpoint
from milepost.errors import TuneError
from milepost.worker import trainable as module
from milepost.worker.trainable import Trainable, TrainingResult


class Count(Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.seen = config
        self.count = 0
        self.logged: list[dict[str, Any]] = []
        self.cleaned = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count, "timesteps_this_iter": 10, **self.config.get("result", {})}

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        if self.config.get("files"):
            Path(checkpoint_dir, "count").write_text(str(self.count))
            return None
        return {"count": self.count}

    def load_checkpoint(self, checkpoint: Any) -> None:
        if isinstance(checkpoint, str):
            self.count = int(Path(checkpoint, "count").read_text())
        else:
            self.count = checkpoint["count"]

    def log_result(self, result: dict[str, Any]) -> None:
        self.logged.append(result)

    def cleanup(self) -> None:
        self.cleaned += 1


def test_config_and_its_copy() -> None:
    """``self.config`` is the dict itself, ``setup`` gets a deep copy; None means empty."""
    config = {"deep": [1]}
    made = Count(config)
    assert made.config is config
    assert made.seen == config
    assert made.seen["deep"] is not config["deep"]
    assert Count().config == {}
    assert made.get_config() is config


def test_train() -> None:
    """train() adds the automatic fields, counts, and lets log_result see the row."""
    made = Count({"a": 1})
    one, two = made.train(), made.train()
    assert one["count"] == 1
    assert (one["training_iteration"], two["training_iteration"]) == (1, 2)
    assert (one["trial_id"], one["config"], one["done"]) == ("default", {"a": 1}, False)
    assert (one["timesteps_total"], two["timesteps_total"]) == (10, 20)
    assert made.logged == [one, two]
    assert (made.iteration, made.training_iteration) == (2, 2)
    state = made.get_state()
    assert (state["iteration"], state["timesteps_total"], state["last_result"]) == (2, 20, two)


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("given", ["result", "checkpoint", "path"])
def test_save_and_restore(files: bool, given: str) -> None:
    """Another object goes on from a saved one; its counters come with a TrainingResult."""
    original = Count({"files": files})
    for _ in range(3):
        original.train()
    saved = original.save()
    assert isinstance(saved.checkpoint, Checkpoint)
    assert saved.metrics["training_iteration"] == 3
    restored = Count({"files": files})
    restored.restore(
        {"result": saved, "checkpoint": saved.checkpoint, "path": saved.checkpoint.path}[given]
    )
    row = restored.train()
    assert row["count"] == 4
    assert row["training_iteration"] == (4 if given == "result" else 1)
    assert row["iterations_since_restore"] == 1
    assert row["timesteps_total"] == (40 if given == "result" else 10)


def test_save_into_a_given_directory(tmp_path: Path) -> None:
    """The directory is created and kept."""
    saved = Count({"files": True}).save(str(tmp_path / "deep" / "here"))
    assert saved == TrainingResult(saved.checkpoint, {})
    assert (tmp_path / "deep" / "here" / "count").read_text() == "0"


def test_restore_of_what_is_not_there(tmp_path: Path) -> None:
    """A missing checkpoint is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"does not exist on storage anymore.*nowhere"):
        Count().restore(str(tmp_path / "nowhere"))


def test_train_buffered() -> None:
    """Steps are taken until time is up, the bound is met, or a result wants something."""
    assert len(Count().train_buffered(0)) == 1
    assert len(Count().train_buffered(1000, max_buffer_length=4)) == 4
    assert len(Count({"result": {"done": True}}).train_buffered(1000)) == 1
    assert len(Count({"result": {"should_checkpoint": True}}).train_buffered(1000)) == 1


def test_reset() -> None:
    """reset() changes the config and starts counting anew, if reset_config agrees."""

    class Willing(Count):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return bool(new_config["ok"])

    made = Willing({"ok": 0})
    made.train()
    assert made.reset({"ok": 0}) is False
    assert made.iteration == 1
    assert made.reset({"ok": 1}) is True
    assert made.iteration == 0
    assert made.config == {"ok": 1}
    assert made.train()["time_since_restore"] < 10
    assert Count().reset({}) is False


def test_stop_cleans_up_once() -> None:
    """stop() may be called twice."""
    made = Count()
    made.stop()
    made.stop()
    assert made.cleaned == 1


def test_defaults() -> None:
    """What a subclass does not define says so, or does nothing."""
    made = Trainable({})
    with pytest.raises(NotImplementedError, match="must define step"):
        made.train()
    with pytest.raises(NotImplementedError, match="checkpoint_at_end=False"):
        made.save_checkpoint("x")
    with pytest.raises(NotImplementedError, match="load_checkpoint"):
        made.load_checkpoint({})
    assert Trainable.default_resource_request({}) is None
    assert Trainable.resource_help({}) == ""
    assert made.reset_config({}) is False
    assert (made.trial_id, made.trial_name, made.trial_resources) == ("default",) * 3
    made.stop()


def test_export_model() -> None:
    """Formats are checked before the class is asked."""

    class Exporting(Count):
        def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
            return {name: f"{export_dir}/{name}" for name in export_formats}

    assert Count().export_model(["model"], "/x") == {}
    assert Exporting().export_model("ONNX", "/x") == {"onnx": "/x/onnx"}
    with pytest.raises(TuneError, match="'tflite'"):
        Exporting().export_model(["model", "tflite"])


def test_logdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself an object has a directory of its own below ~/milepost_results, made when asked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    one, two = Count(), Count()
    assert not os.path.exists(tmp_path / "milepost_results")
    assert one.logdir == one.logdir != two.logdir
    assert os.path.isdir(one.logdir)
    assert os.path.dirname(one.logdir) == str(tmp_path / "milepost_results")
    storage = SimpleNamespace(trial_working_directory="/some/where")
    assert Count(storage=storage).logdir == "/some/where"


def test_slow_setup_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A setup of more than ten seconds is worth a line."""
    times = iter([0.0, 11.5])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    caplog.set_level(logging.INFO, "milepost.worker")
    Count()
    assert "Count.setup() took 11.5 s" in caplog.text


def test_auto_filled_metrics() -> None:
    """The fields of a row can be had without a step."""
    made = Count({"a": 1})
    fields = made.get_auto_filled_metrics(timestamp=5)
    assert (fields["timestamp"], fields["config"], fields["pid"]) == (5, {"a": 1}, os.getpid())
    assert "time_this_iter_s" not in fields
    assert made.get_auto_filled_metrics(time_this_iter=2.0)["time_this_iter_s"] == 2.0
    assert sorted(made.get_auto_filled_metrics(debug_metrics_only=True)) == [
        *("config", "date", "hostname", "node_ip", "pid", "timestamp", "trial_id")
    ]
    assert made.get_current_ip_pid() == (fields["node_ip"], os.getpid())


def test_system_usage() -> None:
    """``log_sys_usage`` in the config adds the machine's use to each row."""
    perf = Count({"log_sys_usage": True}).train()["perf"]
    assert 0 <= perf["cpu_util_percent"] <= 100
    assert 0 < perf["ram_util_percent"] < 100
