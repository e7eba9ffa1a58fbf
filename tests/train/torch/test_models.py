"""Models, devices, seeds, and functions of before."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
import torch.distributed as group
from torch import nn

import milepost.train.torch as ours
from milepost.train.torch import (
    enable_reproducibility,
    get_device,
    get_devices,
    prepare_model,
    reproducibility,
)

Run = Callable[..., list[Any]]
Worker = Callable[..., contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", None])
def test_one_worker_has_the_model_itself(worker: Worker, strategy: str | None) -> None:
    """It is moved and not wrapped, and needs no process group."""
    net = nn.Linear(2, 2)
    with worker():
        assert prepare_model(net, parallel_strategy=strategy) is net
        moved = prepare_model(net, move_to_device=torch.device("meta"), parallel_strategy=strategy)
    assert moved.weight.device.type == "meta"


def test_no_strategy(worker: Worker) -> None:
    """With several workers and None the model is not wrapped either."""
    net = nn.Linear(2, 2)
    with worker(1, 2):
        assert prepare_model(net, parallel_strategy=None) is net


def wrapped(strategy: str, kwargs: dict[str, Any]) -> tuple[str, list[float]]:
    net = nn.Linear(3, 3, bias=False)
    net.weight.data.fill_(1.0)
    made = prepare_model(net, parallel_strategy=strategy, parallel_strategy_kwargs=kwargs)
    made(torch.full((1, 3), float(group.get_rank()))).sum().backward()
    gradient = made.weight.grad.full_tensor() if strategy == "fsdp" else made.module.weight.grad
    kind = type(made).__name__
    if strategy == "ddp":
        assert made.static_graph is kwargs.get("static_graph", False)
    return kind, gradient[0].tolist()


@pytest.mark.parametrize(
    ("strategy", "kwargs", "kind"),
    [
        ("ddp", {}, "DistributedDataParallel"),
        ("ddp", {"static_graph": True}, "DistributedDataParallel"),
        ("fsdp", {}, "FSDPLinear"),
        ("fsdp", {"reshard_after_forward": False}, "FSDPLinear"),
    ],
)
def test_several_workers_train_one_model(
    workers: Run, strategy: str, kwargs: dict[str, Any], kind: str
) -> None:
    """On CPUs over gloo; gradients are the mean of all workers'."""
    assert workers(2, wrapped, strategy, kwargs) == [(kind, [0.5] * 3)] * 2


def test_mistakes(worker: Worker) -> None:
    """Each error says what to do next, whatever the number of workers."""
    net = nn.Linear(1, 1)
    with worker():
        with pytest.raises(ValueError, match=r"'dpp'.*no such strategy. Did you mean 'ddp'"):
            prepare_model(net, parallel_strategy="dpp")
        with pytest.raises(ValueError, match=r"must be one of: ddp, fsdp. None does not wrap"):
            prepare_model(net, parallel_strategy="deepspeed")
    with worker(0, 2), pytest.raises(RuntimeError, match="2 workers needs the process group"):
        prepare_model(net)
    for function in (get_device, get_devices, lambda: prepare_model(net)):
        with pytest.raises(RuntimeError, match="outside a training worker"):
            function()


def test_arguments_of_the_first_fsdp(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not those of ``fully_shard``; and NCCL does not move what is on CPUs."""
    monkeypatch.setattr(group, "is_initialized", lambda: True)
    monkeypatch.setattr(group, "get_backend", lambda: "gloo")
    wrong = {"auto_wrap_policy": None}
    with worker(0, 2):
        with pytest.raises(TypeError, match=r"no such argument.* call fully_shard"):
            prepare_model(nn.Linear(1, 1), parallel_strategy="fsdp", parallel_strategy_kwargs=wrong)
        monkeypatch.setattr(group, "get_backend", lambda: "nccl")
        with pytest.raises(RuntimeError, match=r"TorchConfig\(backend='gloo'\)"):
            prepare_model(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("visible", "expected"), [(0, ["cpu"]), (1, ["cuda:0"]), (2, ["cuda:0", "cuda:1"])]
)
def test_devices(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, visible: int, expected: list[str]
) -> None:
    """A worker's process sees its own GPUs, and only those."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with worker(1, 2):
        assert [str(device) for device in get_devices()] == expected
        assert get_device() == get_devices()[0]


@pytest.fixture
def reproducible(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what ``enable_reproducibility`` does to the process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    yield
    torch.use_deterministic_algorithms(False)
    reproducibility._seed = None


@pytest.mark.usefixtures("reproducible")
def test_reproducibility() -> None:
    """All generators, deterministic algorithms only; outside of workers too."""

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    enable_reproducibility(7)
    first = drawn()
    assert first != drawn()
    enable_reproducibility(seed=7)
    assert first == drawn()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark is False
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with pytest.raises(TypeError, match="seed='1'"):
        enable_reproducibility("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from 0 to 2 \*\* 32 - 1"):
        enable_reproducibility(-1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ours.accelerate(amp=True), "torch.autocast"),
        (lambda: ours.prepare_optimizer(None), "use the optimizer as it is"),
        (lambda: ours.backward(None), r"loss.backward\(\)"),
    ],
)
def test_functions_of_before(call: Callable[[], Any], says: str) -> None:
    """They raise, as Ray's do, and say what to write instead."""
    with pytest.raises(DeprecationWarning, match=says):
        call()


def test_names_need_no_pytorch() -> None:
    """Without PyTorch all names are there, and using one says how to install it."""
    code = """
import sys
sys.modules["torch"] = None
import milepost.train.torch as ours
from milepost.train.context import TrainContext, entered
for name in ours.__all__:
    getattr(ours, name)
try:
    ours.save_state({}, "/tmp")
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=50
    )
    assert "run `pip install 'milepost[torch]'`" in done.stdout
    code = "import sys, milepost.train.torch as t; [getattr(t, n) for n in t.__all__]\n"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "False False"
