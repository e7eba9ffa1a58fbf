"""The samples of Ray's page on checkpoints of training, run as scripts.

Each is the page's code with the import changed and, where it leaves training out, a small network
that several workers train; what the page says of it is checked. What storage cannot do yet is
refused, and the message says what can be done.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

BEGINNING = """
import json
import os

import torch

import milepost.train
from milepost.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig
from milepost.train.torch import TorchTrainer, prepare_model

PLACE = os.path.expanduser("~/runs")
TWO = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5})


def prepared():
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)[milepost.train.get_context().get_world_rank() :: 2]
    model = prepare_model(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, optimizer, inputs, inputs.sum(1, keepdim=True)


def step(model, optimizer, inputs, targets):
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def show(result):
    print("RESULT", json.dumps({
        "path": result.path,
        "metrics": result.metrics,
        "checkpoint": result.checkpoint.path,
        "kept": sorted(int(name[-6:]) for name in os.listdir(result.path) if "checkpoint_" in name),
        "best": [(c.path, m["epoch"], m["val_loss"]) for c, m in result.best_checkpoints],
        "returned": result.return_value,
    }))
"""

LOOP = """
import tempfile
import torch
import milepost.train
from milepost.train import Checkpoint

VAL_LOSS = [0.5, 0.2, 0.4, 0.1, 0.3, 0.6]


def train_loop_per_worker(config):
    model, *rest = prepared()
    first = 0
    checkpoint = milepost.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as ckpt_dir:
            state = torch.load(f"{ckpt_dir}/model.pt")
            model.load_state_dict(state)
            first = int(ckpt_dir[-6:]) + 1
    for epoch in range(first, config["epochs"]):
        loss = step(model, *rest)
        with tempfile.TemporaryDirectory() as tmpdir:
            torch.save(model.state_dict(), f"{tmpdir}/model.pt")
            milepost.train.report(
                metrics={"loss": loss.item(), "epoch": epoch, "val_loss": VAL_LOSS[epoch]},
                checkpoint=Checkpoint.from_directory(tmpdir),
            )
            assert os.listdir(tmpdir) == ["model.pt"]
    return first
"""

FIT = """
run_config = RunConfig(
    storage_path=PLACE,
    name="resnet-finetune",
    checkpoint_config=CheckpointConfig(
        num_to_keep=3,
        checkpoint_score_attribute="val_loss",
        checkpoint_score_order="min",
    ),
)
trainer = TorchTrainer(
    train_loop_per_worker,
    train_loop_config={"epochs": 5},
    scaling_config=TWO,
    run_config=run_config,
)
result = trainer.fit()
print(result.best_checkpoints[0])         # (Checkpoint, metrics)
print(result.checkpoint)                  # latest
show(result)
"""

RESTORE = """
trainer = TorchTrainer.restore(
    f"{PLACE}/resnet-finetune",
    train_loop_per_worker=train_loop_per_worker,
    train_loop_config={"epochs": 6},
    scaling_config=ScalingConfig(num_workers=4, resources_per_worker={"CPU": 0.25}),
)
result = trainer.fit()
show(result)
"""


def results(out: str) -> list[dict[str, Any]]:
    lines = out.splitlines()
    return [json.loads(each[7:]) for each in lines if each.startswith("RESULT ")]


def test_saved_kept_and_gone_on_with(place: Any) -> None:
    """Copied to <storage_path>/<name>/checkpoint_<index>; the worst ones go; restore goes on.

    All ranks pass a directory with the same weights, and what they leave is one checkpoint.
    """
    out = place.script(BEGINNING + LOOP + FIT + RESTORE)
    first, again = results(out)
    run = place.home / "runs" / "resnet-finetune"
    assert first["path"] == again["path"] == str(run)
    assert first["checkpoint"] == f"{run}/checkpoint_000004"
    # The three with the lowest loss, the best one last, as in Ray; the latest is kept besides.
    assert [epoch for _, epoch, _ in first["best"]] == [4, 1, 3]
    assert first["kept"] == [1, 3, 4]
    best, latest = [line for line in out.splitlines() if "Checkpoint(filesystem" in line]
    assert best.startswith(f"(Checkpoint(filesystem=local, path={run}/checkpoint_000004), {{")
    assert latest == f"Checkpoint(filesystem=local, path={run}/checkpoint_000004)"

    assert again["returned"] == 5
    assert again["checkpoint"] == f"{run}/checkpoint_000005"
    assert [epoch for _, epoch, _ in again["best"]] == [4, 1, 3]
    assert again["kept"] == [1, 3, 4, 5]
    assert again["metrics"]["loss"] < 2  # a new network has about 9


MIDDLE = """
import tempfile
from pathlib import Path


def train_loop_per_worker(config):
    model, optimizer, inputs, targets = prepared()
    epoch = batch = 0
    checkpoint = milepost.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as ckpt_dir:
            state = torch.load(f"{ckpt_dir}/model.pt")  # weights only: nothing is unpickled
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            epoch, batch = state["epoch"], state["batch"]
    start = [epoch, batch]
    while epoch < 2:
        loss = step(model, optimizer, inputs[batch::4], targets[batch::4])
        batch += 1
        if batch == 4:
            epoch, batch = epoch + 1, 0
        with tempfile.TemporaryDirectory() as tmpdir:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
                "batch": batch,
            }
            torch.save(state, f"{tmpdir}/model.pt")
            milepost.train.report(
                metrics={"loss": loss.item(), "epoch": epoch, "val_loss": 0},
                checkpoint=Checkpoint.from_directory(tmpdir),
            )
        if config["fails"] and (epoch, batch) == (1, 1):
            raise RuntimeError("lost the machine")
    return start


def run(name, fails):
    trainer = TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"fails": fails},
        scaling_config=TWO,
        run_config=RunConfig(storage_path=PLACE, name=name),
    )
    try:
        return trainer.fit()
    except milepost.train.TrainingFailedError as error:
        print("FAILED", type(error).__name__)


whole = run("whole", False)
run("cut", True)
show(run("cut", False))
last = "checkpoint_000007/model.pt"
assert Path(whole.path, last).read_bytes() == Path(PLACE, "cut", last).read_bytes()
"""


@pytest.mark.chaos
def test_one_dict_of_model_optimizer_and_counters(place: Any) -> None:
    """With all three a run goes on in the middle of an epoch, to the bits of one that was whole."""
    out = place.script(BEGINNING + MIDDLE)
    assert "FAILED WorkerGroupError" in out
    (result,) = results(out)
    assert result["returned"] == [1, 1]


REFUSED = """
import milepost.train
from milepost.train import Checkpoint, Result, RunConfig, ScalingConfig
from milepost.train.torch import TorchTrainer


def attempt(call):
    try:
        call()
    except Exception as error:
        print("REFUSED", type(error).__name__, str(error).replace("\\n", " "))


def train_loop_per_worker(config):
    raise AssertionError("nothing may be trained")


place = "s3://bucket/runs/resnet-finetune"
attempt(lambda: RunConfig(storage_path="s3://bucket/runs/", name="resnet-finetune"))
attempt(
    lambda: TorchTrainer.restore(
        place,
        train_loop_per_worker=train_loop_per_worker,
        scaling_config=ScalingConfig(num_workers=4, use_gpu=True),
    )
)
attempt(lambda: Result.from_path(place))
attempt(lambda: Checkpoint(place))
"""


def test_buckets_are_refused(place: Any) -> None:
    """The page's s3:// paths are errors at that line, which say what to give instead."""
    lines = place.script(REFUSED).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("REFUSED ValueError storage path 's3://bucket/runs/")
        assert "use a local or mounted directory" in line
    assert list(place.home.iterdir()) == []


GPUS = """
milepost.init(num_cpus=4, num_gpus=0)
attempt(
    TorchTrainer(
        train_loop_per_worker,
        scaling_config=ScalingConfig(num_workers=4, use_gpu=True),
        run_config=RunConfig(name="resnet-finetune"),
    ).fit
)
"""


def test_gpus_that_are_not_there(place: Any) -> None:
    """Asking for more than the machine has is an error, not a wait; it says what there is."""
    out = place.script("import milepost\n" + REFUSED.partition("place = ")[0] + GPUS)
    (line,) = (line for line in out.splitlines() if line.startswith("REFUSED"))
    assert line.startswith("REFUSED ControllerError")
    assert "no group of 4 workers" in line
    assert "asks for GPU 4, and there is CPU 4 in all" in line
    assert "No GPU was found: leave use_gpu out to train on CPUs" in line
