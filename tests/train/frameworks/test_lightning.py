"""Lightning in training workers; all but the first tests need Lightning."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost import train
from milepost.train.torch import TorchTrainer

HERE = "milepost.train.lightning"


def test_without_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be imported; the error comes with the first name, and has the command."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("tune.integration._pytorch_lightning", "train.lightning.callback"):
        monkeypatch.delitem(sys.modules, f"milepost.{name}", raising=False)
    package = import_module(HERE)
    monkeypatch.delitem(vars(package), "RayTrainReportCallback", raising=False)
    with pytest.raises(ImportError, match="run `pip install lightning`"):
        _ = package.RayTrainReportCallback


def loop(config: dict[str, Any]) -> list[Any]:
    """Fit a small model; returns who the worker was, the epochs it trained, and its weights."""
    import warnings

    import lightning.pytorch as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from milepost.train.lightning import (
        RayDDPStrategy,
        RayLightningEnvironment,
        RayTrainReportCallback,
        prepare_trainer,
    )

    warnings.simplefilter("ignore")
    epochs: list[int] = []

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            epochs.append(self.current_epoch)
            x, y = batch
            loss = torch.nn.functional.mse_loss(self.layer(x), y)
            self.log("loss", loss, sync_dist=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(train.get_context().get_world_rank())
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    trainer = pl.Trainer(
        max_epochs=config["epochs"],
        accelerator="cpu",
        devices="auto",
        strategy=RayDDPStrategy(),
        plugins=[RayLightningEnvironment()],
        callbacks=[RayTrainReportCallback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer = prepare_trainer(trainer)
    net = Net()
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=5)
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            trainer.fit(net, data, ckpt_path=f"{directory}/checkpoint.ckpt")
    else:
        trainer.fit(net, data)
    weights = [trainer.strategy.all_gather(net.layer.weight).flatten(1).tolist()]
    return [trainer.world_size, trainer.global_rank, epochs, *weights]


@pytest.mark.timeout(200)
def test_two_workers_train_one_model_and_go_on(make: Any) -> None:
    """Each has half of the batches; a second run goes on where the first ended."""
    pytest.importorskip("lightning")
    for epochs, trained in ((2, [0, 1]), (3, [2])):
        config = {"epochs": epochs}
        result = make(TorchTrainer, loop, train_loop_config=config).fit()
        world, rank, seen, weights = result.return_value
        assert (world, rank) == (2, 0)
        assert seen == [each for each in trained for _ in range(4)]
        assert weights[0] == weights[1]
    assert (result.metrics["epoch"], result.metrics["step"]) == (2, 12)
    assert isinstance(result.metrics["loss"], float)
    assert [p.name for p in Path(result.checkpoint.path).iterdir() if p.name[0] != "."] == [
        "checkpoint.ckpt"
    ]


@pytest.fixture
def library() -> Any:
    """Our names, where Lightning is installed."""
    pytest.importorskip("lightning")
    return import_module(HERE)


def test_what_is_reported(library: Any, reports: Any) -> None:
    """All metrics as numbers; a worker that has written nothing brings no checkpoint."""
    torch = pytest.importorskip("torch")

    saved: list[str] = []

    def save(path: str, weights_only: bool) -> None:
        assert weights_only is False
        if not saved:
            Path(path).write_text("state")
        saved.append(path)

    trainer = SimpleNamespace(
        callback_metrics={"loss": torch.tensor(0.5)},
        current_epoch=3,
        global_step=12,
        save_checkpoint=save,
    )
    callback = library.RayTrainReportCallback()
    for _ in range(2):
        callback.on_train_epoch_end(trainer, None)
    metrics = {"loss": 0.5, "epoch": 3, "step": 12}
    assert reports == [(metrics, {"checkpoint.ckpt": True}), (metrics, None)]


def test_what_is_validated(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a part of the checkpoint asks for it."""
    asked: list[Any] = []
    module = import_module(library.RayTrainReportCallback.__module__)
    monkeypatch.setattr(module, "report", lambda metrics, **given: asked.append(given))

    def save(path: str, weights_only: bool) -> None:
        if not asked:
            Path(path).write_text("state")

    trainer = SimpleNamespace(
        callback_metrics={}, current_epoch=0, global_step=0, save_checkpoint=save
    )
    callback = library.RayTrainReportCallback(validation=True)
    for _ in range(2):
        callback.on_train_epoch_end(trainer, None)
    assert [given["validation"] for given in asked] == [True, False]


@pytest.mark.parametrize("kind", ["RayDDPStrategy", "RayFSDPStrategy"])
def test_strategies(library: Any, worker: Any, kind: str) -> None:
    """The device and the share of samples are those of the worker."""
    strategy = getattr(library, kind)()
    with worker(1, 3):
        assert strategy.root_device.type == "cpu"
        assert strategy.distributed_sampler_kwargs == {"num_replicas": 3, "rank": 1}


def test_the_environment(library: Any, worker: Any) -> None:
    """Ranks are the worker's, whatever Lightning sets."""
    environment = library.RayLightningEnvironment()
    assert environment.creates_processes_externally
    with worker(2, 3):
        environment.set_world_size(9)
        environment.set_global_rank(9)
        environment.teardown()
        assert (environment.world_size(), environment.global_rank()) == (3, 2)
        assert (environment.local_rank(), environment.node_rank()) == (2, 0)


def test_trainers_that_do_not_fit(library: Any) -> None:
    """The error says what to pass."""
    strategy = library.RayDDPStrategy()
    with pytest.raises(RuntimeError, match=r"strategy SimpleNamespace.*RayDDPStrategy\(\)"):
        library.prepare_trainer(SimpleNamespace(strategy=SimpleNamespace()))
    strategy.cluster_environment = SimpleNamespace()
    with pytest.raises(RuntimeError, match=r"plugins=\[RayLightningEnvironment\(\)\]"):
        library.prepare_trainer(SimpleNamespace(strategy=strategy))
    strategy.cluster_environment = library.RayLightningEnvironment()
    fits = SimpleNamespace(strategy=strategy)
    assert library.prepare_trainer(fits) is fits
