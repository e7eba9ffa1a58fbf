"""State that is written while the training goes on."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import resource
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as group
from torch import nn

from milepost import train
from milepost.errors import CorruptCheckpointError
from milepost.train import Checkpoint, RunConfig, ScalingConfig
from milepost.train.torch import (
    TorchTrainer,
    load_state,
    prepare_model,
    save_state,
    save_state_async,
)

Run = Callable[..., list[Any]]


@contextlib.contextmanager
def gate(*, opened_by_waiting: bool = False) -> Iterator[threading.Event]:
    """Let nothing be written in the background before the event is set.

    Args:
        opened_by_waiting: it is set when our code begins to wait for what is written.
    """
    from milepost.train.torch.state import safetensors
    from milepost.worker import unfinished

    event, write, waiting = threading.Event(), safetensors.write, unfinished.waiting

    def later(*args: Any) -> None:
        event.wait()
        write(*args)

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        event.set()
        with waiting():
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors, "write", later)
        if opened_by_waiting:
            patch.setattr(unfinished, "waiting", told)
        try:
            yield event
        finally:
            event.set()


def trained(strategy: str, root: str) -> dict[str, Any]:
    """Save beside a step of training, and return what was to be saved, in full."""
    torch.manual_seed(3)
    net = prepare_model(
        nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), parallel_strategy=strategy
    )
    optimizer = torch.optim.AdamW(net.parameters())
    state = {"model": net, "optimizer": optimizer, "seen": torch.zeros(2), "list": [1]}

    def step() -> None:
        net(torch.randn(4, 5)).square().mean().backward()
        optimizer.step()
        state["seen"].add_(1)  # type: ignore[attr-defined]
        state["list"].append(2)  # type: ignore[attr-defined]

    def whole(values: Any) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix("module."): (
                one.full_tensor() if hasattr(one, "full_tensor") else one
            ).clone()
            for name, one in values
        }

    def contents() -> dict[str, Any]:
        moments = [
            (f"{name}/{key}", one)
            for name, parameter in net.named_parameters()
            for key, one in optimizer.state[parameter].items()
        ]
        return {
            "model": whole(net.state_dict().items()),
            "moments": whole(moments),
            "seen": whole([("seen", state["seen"])]),
            "list": copy.copy(state["list"]),
        }

    step()
    before = contents()
    with gate() as written:
        future = save_state_async(state, os.path.join(root, f"rank-{group.get_rank()}"))
        step()
        written.set()
        future.result()
    return before


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.always("fsdp")
def test_what_is_saved_is_the_state_at_the_call(
    workers: Run, tmp_path: Path, strategy: str
) -> None:
    """Workers train while it is written, and meet in that; one process loads all to the bit."""
    before, _ = workers(2, trained, strategy, str(tmp_path))
    shutil.copytree(tmp_path / "rank-1", tmp_path / "rank-0", dirs_exist_ok=True)
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    optimizer = torch.optim.AdamW(net.parameters())
    state: dict[str, Any] = {"model": net, "optimizer": optimizer, "seen": None, "list": None}
    load_state(state, tmp_path / "rank-0")
    moments = {
        f"{name}/{key}": one
        for name, parameter in net.named_parameters()
        for key, one in optimizer.state[parameter].items()
    }
    pairs = [(net.state_dict(), "model"), (moments, "moments"), ({"seen": state["seen"]}, "seen")]
    for found, kind in pairs:
        assert found.keys() == before[kind].keys()
        for name, one in found.items():
            assert torch.equal(one, before[kind][name]), name
    assert state["list"] == before["list"] == [1, 2]


def test_views_are_copied_as_what_they_show(tmp_path: Path) -> None:
    """Turned, cut, repeated and conjugated ones, and those of one memory."""
    base = torch.arange(24.0).view(6, 4)
    number = torch.tensor([1 + 2j, 3 - 4j])
    state = {
        "base": base,
        "turned": base.t(),
        "cut": base[1::2, 1:3],
        "repeated": base[0].expand(3, 4),
        "empty": base[:0],
        "scalar": base[1, 1],
        "half": base[2].bfloat16(),
        "conj": number.conj(),
        "imag": number.conj().imag,
    }
    expected = {name: one.clone() for name, one in state.items()}
    with gate():
        future = save_state_async(state, tmp_path)
        base.zero_()
        number.zero_()
    future.result()
    found: dict[str, Any] = dict.fromkeys(state)
    load_state(found, tmp_path)
    for name, one in expected.items():
        assert found[name].dtype == one.dtype
        assert torch.equal(found[name], one), name


class Watching:
    """Notes when its state is taken whether a file had been written."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def state_dict(self) -> dict[str, bool]:
        self.done = self._future.done()
        return {}

    def load_state_dict(self, state: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("save", [save_state, save_state_async])
def test_a_second_call_waits_for_the_first(tmp_path: Path, save: Any) -> None:
    """Only then does it look at the state: there are never two copies."""
    with gate(opened_by_waiting=True):
        first = save_state_async({"x": torch.ones(2)}, tmp_path / "1")
        assert not first.cancel()
        watching = Watching(first)
        save({"x": watching}, tmp_path / "2")
        assert watching.done


def failing(directory: Path) -> Future[None]:
    """Save into a directory that is removed before anything is written."""
    with gate():
        future = save_state_async({"x": torch.ones(2)}, directory)
        shutil.rmtree(directory)
    return future


def test_an_error_is_raised_once_by_whoever_is_asked_first(tmp_path: Path) -> None:
    """By the future, or by the next call, which saves nothing; the one after that is free."""
    with pytest.raises(FileNotFoundError) as caught:
        failing(tmp_path / "1").result()
    assert caught.value.__notes__ == [
        f"raised while {tmp_path / '1'} was written beside the training; it is not complete"
    ]
    failing(tmp_path / "2")
    with pytest.raises(FileNotFoundError, match="/2/"):
        save_state_async({}, tmp_path / "3")
    assert not (tmp_path / "3").exists()
    save_state_async({"x": torch.ones(2)}, tmp_path / "2").result()
    assert failing(tmp_path / "4").exception() is not None
    save_state({}, tmp_path / "5")


def test_a_state_that_is_not_complete_cannot_be_loaded(tmp_path: Path) -> None:
    """The index is there first, and knows what is missing."""
    with gate():
        future = save_state_async({"x": torch.ones(2)}, tmp_path)
        with pytest.raises(CorruptCheckpointError, match="is missing"):
            load_state({"x": None}, tmp_path)
    future.result()
    load_state({"x": None}, tmp_path)


def test_the_copy_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is told that writing has ended, its memory is free, also if there was no room."""
    from milepost.train.torch.state import safetensors

    alive: list[weakref.ref[Any]] = []
    put = safetensors._put

    def noted(file: Any, tensor: torch.Tensor) -> None:
        alive.append(weakref.ref(tensor))
        put(file, tensor)

    monkeypatch.setattr(safetensors, "_put", noted)
    state = {"x": torch.ones(200_000), "y": torch.ones(3)}
    save_state_async(state, tmp_path / "1").result()
    assert [one() for one in alive] == [None, None]
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, most))
    try:
        error = save_state_async(state, tmp_path / "2").exception()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert [one() for one in alive] == [None] * 3
    with pytest.raises(CorruptCheckpointError, match="bytes, and"):
        load_state({"x": None}, tmp_path / "2")


def one_cannot_write(root: str) -> str:
    rank = group.get_rank()
    net = prepare_model(nn.Linear(4, 4), parallel_strategy="fsdp")
    directory = Path(root, f"rank-{rank}")
    with gate():
        future = save_state_async({"model": net}, directory)
        if rank == 1:
            shutil.rmtree(directory)
    if rank == 0:
        future.result()
    save_state_async({"model": net}, Path(root, f"next-{rank}"))
    raise AssertionError


@pytest.mark.chaos
def test_a_rank_that_could_not_write(workers: Run, tmp_path: Path) -> None:
    """The next call raises in all ranks."""
    errors = workers(2, one_cannot_write, str(tmp_path), failing=True)
    assert "save_state_async() failed in rank 1 (this is 0): FileNotFoundError" in str(errors[0])
    assert isinstance(errors[1], FileNotFoundError)
    assert not list(tmp_path.glob("next-*/*"))


def reports() -> None:
    """Report what is still being written; then what cannot be, whose error is asked for before."""
    with tempfile.TemporaryDirectory() as root:
        with gate(opened_by_waiting=True):
            save_state_async({"x": torch.ones(2)}, os.path.join(root, "state"))
            train.report({"step": 0}, checkpoint=Checkpoint.from_directory(root))
        directory = Path(root, "gone", "state")
        future = failing(directory)
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                train.report({"step": 1}, checkpoint=Checkpoint.from_directory(directory.parent))
        with pytest.raises(FileNotFoundError):
            future.result()
        save_state({"x": torch.ones(3)}, directory)
        train.report({"step": 2}, checkpoint=Checkpoint.from_directory(directory))


@pytest.mark.preloading("torch")
@pytest.mark.chaos
def test_report_waits_and_raises(tmp_path: Path) -> None:
    """A checkpoint is complete; what cannot be is not reported, until it is saved again."""
    result = TorchTrainer(
        reports,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name="run", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert [row["step"] for row in result.metrics_dataframe.to_dict("records")] == [0, 2]
    (first, _), (last, _) = result.best_checkpoints
    state: dict[str, Any] = {"x": None}
    load_state(state, Path(first.path, "state"))
    assert state["x"].shape == (2,)
    state = {"x": None}
    load_state(state, last.path)
    assert state["x"].shape == (3,)
