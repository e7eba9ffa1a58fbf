"""TensorFlow in training workers; tests of the library itself need it."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from milepost import train
from milepost.train.tensorflow import TensorflowCheckpoint, TensorflowConfig, TensorflowTrainer

HERE = "milepost.train.tensorflow"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our names for Keras, on a library that has only what they need."""
    fake = ModuleType("keras")
    base = type("Callback", (), {})
    load = SimpleNamespace(load_model=lambda path: ("loaded", os.path.basename(path)))
    vars(fake).update(callbacks=SimpleNamespace(Callback=base), models=load)
    monkeypatch.setitem(sys.modules, "keras", fake)
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    _forget(monkeypatch)
    yield import_module(f"{HERE}.keras")
    sys.modules.pop(f"{HERE}.callback", None)
    vars(import_module(f"{HERE}.keras")).pop("ReportCheckpointCallback", None)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"{HERE}.callback", raising=False)
    module = import_module(f"{HERE}.keras")
    monkeypatch.delitem(vars(module), "ReportCheckpointCallback", raising=False)


def ask() -> list[str | None]:
    """What TensorFlow would read."""
    return [os.environ["TF_CONFIG"], os.environ.get("TF_USE_LEGACY_KERAS")]


def test_the_cluster(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker knows all, and which it is; Keras 2 is chosen only where it is installed."""
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    said, legacy = make(TensorflowTrainer, ask).fit().return_value
    said = json.loads(said)
    assert said["task"] == {"type": "worker", "index": 0}
    assert len(set(said["cluster"]["worker"])) == 2
    installed = import_module("importlib.util").find_spec("tf_keras") is not None
    assert legacy == ("1" if installed else None)
    assert TensorflowConfig().to_dict() == {}


@pytest.mark.parametrize(("legacy", "package"), [("", "keras"), ("1", "tf_keras")])
def test_without_keras(legacy: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be imported; the error comes with the callback, and has the command."""
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", legacy)
    for name in ("keras", "tf_keras"):
        monkeypatch.setitem(sys.modules, name, None)
    _forget(monkeypatch)
    with pytest.raises(ImportError, match=f"run `pip install {package}`"):
        _ = import_module(f"{HERE}.keras").ReportCheckpointCallback


@pytest.mark.parametrize("rank", [0, 1])
def test_all_save_and_rank_zero_brings(rank: int, library: Any, reports: Any, worker: Any) -> None:
    """Models of several workers can only be saved by all together."""
    saved: list[str] = []

    def save(path: str) -> None:
        saved.append(os.path.basename(path))
        Path(path).write_text("model")

    callback = library.ReportCheckpointCallback(
        checkpoint_on="train_end", report_metrics_on="epoch_end", metrics={"l": "loss"}
    )
    callback.model = SimpleNamespace(save=save)
    with worker(rank, 2):
        callback.on_epoch_end(0, {"loss": 0.5, "other": 1})
        callback.on_train_end(logs={"loss": 0.25})
    assert saved == ["model.keras"]
    files = {"model.keras": True, "_model_filename": "model.keras"} if rank == 0 else None
    assert reports == [({"l": 0.5}, None), ({"l": 0.25}, files)]


def test_checkpoints(library: Any, tmp_path: Path) -> None:
    """Each kind of file is found again by its name."""
    model = SimpleNamespace(save=lambda path: Path(path).write_text("model"))
    assert TensorflowCheckpoint.from_model(model).get_model() == ("loaded", "model.keras")
    (tmp_path / "net.h5").write_text("weights")
    (tmp_path / "net").mkdir()
    assert TensorflowCheckpoint.from_h5(tmp_path / "net.h5").get_model() == ("loaded", "net.h5")
    made = TensorflowCheckpoint.from_saved_model(tmp_path / "net")
    assert made.get_model() == ("loaded", "net")
    (tmp_path / "net.txt").touch()
    with pytest.raises(ValueError, match=r"takes a file \*\.h5, got net\.txt"):
        TensorflowCheckpoint.from_h5(tmp_path / "net.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        TensorflowCheckpoint.from_h5(tmp_path / "none.h5")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        TensorflowCheckpoint.from_saved_model(tmp_path / "none")


def loop(config: dict[str, Any]) -> list[Any]:
    """Fit a small model by the strategy for several workers; returns how many there are."""
    import warnings

    warnings.simplefilter("ignore")
    import numpy as np
    import tensorflow as tf

    from milepost.train.tensorflow.keras import ReportCheckpointCallback

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    begun = 0
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(3,))])
        if checkpoint := train.get_checkpoint():
            begun = 1
            found = TensorflowCheckpoint.from_checkpoint(checkpoint).get_model()
            model.set_weights(found.get_weights())
        model.compile(optimizer="sgd", loss="mse")
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(8)
    model.fit(data, epochs=2, verbose=0, callbacks=[ReportCheckpointCallback()])
    return [strategy.num_replicas_in_sync, begun]


@pytest.mark.timeout(400)
def test_two_workers_train_one_model_and_go_on(make: Any) -> None:
    """The strategy finds both; the checkpoint is read by a second run."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf_keras")
    losses = []
    for begun in (0, 1):
        result = make(TensorflowTrainer, loop, train_loop_config={}).fit()
        assert result.return_value == [2, begun]
        losses.append(result.metrics["loss"])
    assert losses[1] < losses[0]
