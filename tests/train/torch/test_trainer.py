"""Training with PyTorch: the process group, and runs that are cut and go on to the same bits."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from milepost import train
from milepost.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from milepost.train.torch import TorchConfig, TorchTrainer

pytestmark = [pytest.mark.timeout(150), pytest.mark.preloading("torch")]


def trainer(root: Path, loop: Any, workers: int = 2, **options: Any) -> TorchTrainer:
    return TorchTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(
            name=options.pop("name", "run"),
            storage_path=str(root),
            verbose=0,
            failure_config=FailureConfig(max_failures=options.pop("max_failures", 0)),
        ),
        **options,
    )


def alone(config: dict[str, Any]) -> list[Any]:
    """What the process group and the environment say, gathered from all ranks."""
    import torch.distributed as dist

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR")
    said = [os.environ[name] for name in names] + [dist.get_backend(), dist.get_rank()]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, said)
    return everyone


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.always("2")
def test_the_process_group(tmp_path: Path, workers: int) -> None:
    """It is there, for one worker too, and so are torchrun's variables."""
    found = trainer(tmp_path, alone, workers).fit().return_value
    assert found == [
        [str(rank), str(workers), str(rank), str(workers), "0", "127.0.0.1", "gloo", rank]
        for rank in range(workers)
    ]


def test_the_config_is_not_changed() -> None:
    """The trainer works on a copy; NCCL is for GPUs."""
    config = TorchConfig()
    made = TorchTrainer(lambda: None, torch_config=config)
    assert config.backend is None
    assert made.backend_config.backend == "gloo"
    gpus = ScalingConfig(num_workers=1, use_gpu=True)
    assert TorchTrainer(lambda: None, scaling_config=gpus).backend_config.backend == "nccl"


def fitted(config: dict[str, Any]) -> list[Any]:
    """A small network with DDP; whoever is named dies once, at the point that is named."""
    import torch
    from torch import nn

    from milepost.train.torch import prepare_model

    def perhaps_die(point: str) -> None:
        if config.get("dies") == (rank, epoch, point) and not Path(config["mark"]).exists():
            Path(config["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rank = train.get_context().get_world_rank()
    model = prepare_model(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    first = 0
    checkpoint = train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory, "state.pt"))
            mine = torch.load(Path(directory, f"buffers-{rank}.pt"))
        model.load_state_dict({**state["model"], **mine})
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    for epoch in range(first, 4):
        numbers = torch.Generator().manual_seed(100 * epoch + rank)
        inputs = torch.randn(16, 4, generator=numbers)
        perhaps_die("forward")
        loss = ((model(inputs) - inputs.sum(1, keepdim=True)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        perhaps_die("step")
        with tempfile.TemporaryDirectory() as directory:
            weights = model.state_dict()
            torch.save(
                {name: weights[name] for name, _ in model.named_buffers()},
                Path(directory, f"buffers-{rank}.pt"),
            )
            if rank == 0:
                state = {"model": weights, "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
                torch.save(state, Path(directory, "state.pt"))
            metrics = {"epoch": epoch, "loss": loss.item()}
            train.report(metrics, checkpoint=Checkpoint.from_directory(directory))
        perhaps_die("reported")
    return [value.tolist() for value in model.state_dict().values()]


@pytest.mark.parametrize(
    "dies",
    [
        pytest.param((rank, epoch, point), id=f"{rank}-{epoch}-{point}")
        for rank in (0, 1)
        for epoch in (0, 2)
        for point in ("forward", "step", "reported")
    ],
)
@pytest.mark.always("1-2-step")
def test_killed_and_gone_on(tmp_path: Path, dies: tuple[int, int, str]) -> None:
    """The weights are those of the run that was never cut, to the last bit."""
    whole = trainer(tmp_path, fitted, name="whole", train_loop_config={}).fit()
    config = {"dies": dies, "mark": str(tmp_path / "mark")}
    cut = trainer(tmp_path, fitted, name="cut", train_loop_config=config, max_failures=1).fit()
    assert (tmp_path / "mark").exists()
    assert cut.return_value == whole.return_value
    assert list(cut.metrics_dataframe["loss"]) == list(whole.metrics_dataframe["loss"])


def test_a_collective_that_loses_a_worker(tmp_path: Path) -> None:
    """Workers that hang in an operation of PyTorch do not hold up the restart."""

    def loop(config: dict[str, Any]) -> str:
        import torch
        import torch.distributed as dist

        if dist.get_rank() == 1 and not Path(config["mark"]).exists():
            Path(config["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        value = torch.ones(1)
        dist.all_reduce(value)
        return str(value.item())

    config = {"mark": str(tmp_path / "mark")}
    result = trainer(tmp_path, loop, train_loop_config=config, max_failures=1).fit()
    assert result.return_value == "2.0"


def test_tensors_are_not_returned(tmp_path: Path) -> None:
    """The driver need not have PyTorch."""

    def loop() -> Any:
        import torch

        return {"weights": [torch.ones(1)]}

    with pytest.raises(train.WorkerGroupError, match=r"returned 'weights/0' is a torch.Tensor"):
        trainer(tmp_path, loop, 1).fit()
