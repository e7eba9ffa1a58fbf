"""The callbacks for other libraries: what they report, and the error when a library is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from milepost.tune.integration import reporting
from milepost.tune.integration.lightgbm import TuneReportCheckpointCallback as LightGBMCallback

HERE = "milepost.tune.integration"


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any]]:
    """What was reported: metrics, and the files of the checkpoint with its metadata, or None."""
    seen: list[tuple[dict[str, Any], Any]] = []

    def report(metrics: dict[str, Any], *, checkpoint: Any = None) -> None:
        files = None
        if checkpoint is not None:
            files = {
                name: os.path.getsize(os.path.join(checkpoint.path, name)) > 0
                for name in os.listdir(checkpoint.path)
                if not name.startswith(".")
            } | checkpoint.get_metadata()
        seen.append((dict(metrics), files))

    monkeypatch.setattr("milepost.worker.session.report", report)
    return seen


# --- what all have in common --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "reported"),
    [
        (None, {"a": 1, "b": 2}),
        ("a", {"a": 1}),
        (["b", "a"], {"a": 1, "b": 2}),
        ({"loss": "a"}, {"loss": 1}),
    ],
)
def test_choosing_metrics(metrics: Any, reported: dict[str, int]) -> None:
    """Metrics are chosen by name, and may be renamed."""
    assert reporting.chosen(reporting.names_of(metrics), {"a": 1, "b": 2}) == reported


def test_choosing_metrics_that_are_not_there() -> None:
    """A misspelt metric suggests the right one."""
    with pytest.raises(KeyError, match="Did you mean 'loss'"):
        reporting.chosen({"x": "los"}, {"loss": 1})
    with pytest.raises(TypeError, match="got 3"):
        reporting.names_of(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "library", "package"),
    [
        ("keras", "keras", "keras"),
        ("xgboost", "xgboost", "xgboost"),
        ("pytorch_lightning", "pytorch_lightning", "lightning"),
    ],
)
def test_missing_libraries(
    module: str, library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the command that installs what is missing, when the callback is used."""
    names = ("keras", "xgboost", "lightning", "lightning.pytorch", "pytorch_lightning")
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"{HERE}._{module}", raising=False)
    monkeypatch.delattr(import_module(HERE), f"_{module}", raising=False)
    public = import_module(f"{HERE}.{module}")
    monkeypatch.delitem(vars(public), "TuneReportCheckpointCallback", raising=False)
    with pytest.raises(ImportError, match=f"needs {library}: run `pip install {package}`"):
        _ = public.TuneReportCheckpointCallback
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = public.no_such_name


def test_the_other_name_for_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """``air.integrations.keras`` has the same callback; a trial has one way to report."""
    here, there = import_module(f"{HERE}.keras"), import_module("milepost.air.integrations.keras")
    monkeypatch.setitem(vars(here), "TuneReportCheckpointCallback", Model)
    assert there.ReportCheckpointCallback is Model
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = there.no_such_name


def test_a_library_that_is_broken(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is there but lacks something itself, its own error comes out."""
    (tmp_path / "milepost_test_broken.py").write_text("import milepost_test_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="milepost_test_missing"):
        reporting.library("milepost_test_broken")


@pytest.mark.parametrize("module", ["keras", "xgboost", "lightgbm"])
def test_older_callbacks(module: str) -> None:
    """Names that Ray has removed raise what Ray raises, with the way out."""
    with pytest.raises(DeprecationWarning, match="use TuneReportCheckpointCallback"):
        import_module(f"{HERE}.{module}").TuneReportCallback("metric")


# --- LightGBM, whose callbacks are plain functions ----------------------------------------------


class Model:
    """Stands for a booster."""

    def save_model(self, path: str) -> None:
        with open(path, "w") as file:
            file.write("trees")


def iteration(number: int, *entries: tuple[Any, ...], rounds: int = 4) -> Any:
    """What LightGBM passes to a callback."""
    return SimpleNamespace(
        model=Model(),
        iteration=number,
        begin_iteration=0,
        end_iteration=rounds,
        evaluation_result_list=list(entries),
    )


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({}, [3]),
        ({"frequency": 2}, [1, 3]),
        ({"frequency": 3}, [2, 3]),
        ({"frequency": 3, "checkpoint_at_end": False}, [2]),
        ({"checkpoint_at_end": False}, []),
    ],
)
def test_lightgbm_checkpoints(
    options: dict[str, Any], saved: list[int], reports: list[tuple[Any, Any]]
) -> None:
    """One report per iteration; the last one carries the model when that is wanted."""
    callback = LightGBMCallback(filename="m.txt", **options)
    for number in range(4):
        callback(iteration(number, ("valid", "l2", number / 10, False)))
    assert [metrics for metrics, _ in reports] == [{"valid-l2": n / 10} for n in range(4)]
    assert [n for n, (_, files) in enumerate(reports) if files] == saved
    assert all(files in (None, {"m.txt": True}) for _, files in reports)


def test_lightgbm_metrics(reports: list[tuple[Any, Any]]) -> None:
    """Results of cross-validation have a mean and a deviation; they can be changed and chosen."""
    entry = ("cv_agg", "l2", 0.5, False, 0.1)
    LightGBMCallback(checkpoint_at_end=False)(iteration(0, entry))
    LightGBMCallback(
        metrics={"loss": "twice"},
        checkpoint_at_end=False,
        results_postprocessing_fn=lambda found: {"twice": 2 * found["cv_agg-l2-mean"]},
    )(iteration(0, entry))
    assert [metrics for metrics, _ in reports] == [
        {"cv_agg-l2-mean": 0.5, "cv_agg-l2-stdv": 0.1},
        {"loss": 1.0},
    ]
    assert LightGBMCallback.order < 30


# --- with the libraries themselves, where they are installed ------------------------------------


@pytest.fixture
def data() -> Iterator[tuple[Any, Any]]:
    """A small regression problem."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    return x, x[:, 0] * 2


def test_lightgbm_itself(data: Any, reports: list[tuple[Any, Any]], tmp_path: Any) -> None:
    """LightGBM calls the callback, and its model can be read back."""
    lightgbm = pytest.importorskip("lightgbm")
    train = lightgbm.Dataset(*data)
    callback = LightGBMCallback(frequency=2)
    options = {"verbosity": -1, "min_data_in_leaf": 1}
    model = lightgbm.train(
        options, train, 3, valid_sets=[train], valid_names=["t"], callbacks=[callback]
    )
    assert [files for _, files in reports] == [None, {"model.txt": True}, {"model.txt": True}]
    assert list(reports[0][0]) == ["t-l2"]
    model.save_model(str(tmp_path / "model.txt"))
    checkpoint = import_module("milepost.tune").Checkpoint.from_directory(str(tmp_path))
    assert LightGBMCallback.get_model(checkpoint).num_trees() == 3


def test_xgboost_itself(data: Any, reports: list[tuple[Any, Any]], tmp_path: Any) -> None:
    """XGBoost calls the callback; the final model is one more report, unless it was saved."""
    xgboost = pytest.importorskip("xgboost")
    kind = import_module(f"{HERE}.xgboost").TuneReportCheckpointCallback
    train = xgboost.DMatrix(*data)
    for frequency, expected in ((0, [0, 0, 0, 1]), (2, [0, 1, 0, 1]), (3, [0, 0, 1])):
        reports.clear()
        model = xgboost.train(
            {},
            train,
            3,
            evals=[(train, "t")],
            verbose_eval=False,
            callbacks=[kind(frequency=frequency)],
        )
        assert [bool(files) for _, files in reports] == [bool(e) for e in expected]
        assert list(reports[0][0]) == ["t-rmse"]
    model.save_model(str(tmp_path / "model.ubj"))
    checkpoint = import_module("milepost.tune").Checkpoint.from_directory(str(tmp_path))
    assert kind.get_model(checkpoint).num_boosted_rounds() == 3


def test_keras_itself(data: Any, reports: list[tuple[Any, Any]]) -> None:
    """Keras calls the callback at the events that were chosen."""
    keras = pytest.importorskip("keras")
    kind = import_module(f"{HERE}.keras").TuneReportCheckpointCallback
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    model.fit(*data, epochs=2, batch_size=20, verbose=0, callbacks=[kind(metrics={"l": "loss"})])
    assert [files for _, files in reports] == [
        {"model.keras": True, "_model_filename": "model.keras"}
    ] * 2
    assert [list(metrics) for metrics, _ in reports] == [["l"], ["l"]]
    reports.clear()
    callback = kind(checkpoint_on="train_end", report_metrics_on=["train_batch_end"], metrics=None)
    model.fit(*data, epochs=1, batch_size=20, verbose=0, callbacks=[callback])
    assert [bool(files) for _, files in reports] == [False, False, True]
    with pytest.raises(ValueError, match="Did you mean 'epoch_end'"):
        kind(checkpoint_on="epoch_ends")


def test_lightning_itself(data: Any, reports: list[tuple[Any, Any]], tmp_path: Any) -> None:
    """Lightning calls the callback, but not for the sanity check."""
    torch = pytest.importorskip("torch")
    try:
        pl = import_module("lightning.pytorch")
    except ImportError:
        pl = pytest.importorskip("pytorch_lightning")
    module = import_module(f"{HERE}.pytorch_lightning")

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return torch.nn.functional.mse_loss(self.layer(x).squeeze(-1), y)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.loss(batch)

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x, y = (torch.tensor(part, dtype=torch.float32) for part in data)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)

    def fit(callback: Any) -> None:
        trainer = pl.Trainer(
            max_epochs=2,
            callbacks=[callback],
            default_root_dir=str(tmp_path),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(Net(), loader, loader)

    fit(module.TuneReportCheckpointCallback({"loss": "val_loss", "gone": "nope"}, filename="c"))
    assert [files for _, files in reports] == [{"c": True}] * 2
    assert all(isinstance(metrics["loss"], float) for metrics, _ in reports)
    assert all(list(metrics) == ["loss"] for metrics, _ in reports)
    reports.clear()
    with pytest.warns(DeprecationWarning, match="save_checkpoints=False"):
        callback = module.TuneReportCallback(on=["validation_end"])
    fit(callback)
    assert [(list(metrics), files) for metrics, files in reports] == [(["val_loss"], None)] * 2
    with pytest.raises(ValueError, match="Did you mean 'validation_end'"):
        module.TuneReportCheckpointCallback(on="validation_ends")
    with pytest.raises(NotImplementedError):
        module.TuneCallback()._handle(None, None)


# --- trainers inside trials ---------------------------------------------------------------------


def test_reports_of_a_trainer(
    reports: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics of rank 0 are reported, with the place of the checkpoint if there is one."""
    from milepost.checkpoint.handle import Checkpoint
    from milepost.tune.integration.ray_train import TuneReportCallback

    monkeypatch.setattr("milepost.worker.session.in_session", lambda: True)
    callback = TuneReportCallback()
    run: Any = None
    metrics = [{"loss": 0.5}, {"loss": 0.7}]
    callback.after_report(run, metrics, None)
    callback.after_report(run, metrics, Checkpoint("/runs/run/checkpoint_000000"))
    assert reports == [
        ({"loss": 0.5}, None),
        ({"loss": 0.5, "checkpoint_path": "/runs/run/checkpoint_000000"}, None),
    ]
    assert metrics == [{"loss": 0.5}, {"loss": 0.7}]


def test_reports_of_a_trainer_outside_a_trial() -> None:
    """There would be nobody to report to."""
    from milepost.tune.integration.ray_train import TuneReportCallback

    with pytest.raises(RuntimeError, match="outside a tuning trial"):
        TuneReportCallback()
