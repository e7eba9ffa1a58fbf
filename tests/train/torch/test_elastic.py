"""State that N workers save and M workers load, in real processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as group
from torch import nn

from milepost.errors import CorruptCheckpointError
from milepost.train.torch import load_state, prepare_model, save_state

Run = Callable[..., list[Any]]


class Net(nn.Module):
    """Dimensions that no number of workers divides, buffers, and a weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.hidden = nn.Linear(5, 5)
        self.norm = nn.BatchNorm1d(5)
        self.out = nn.Linear(5, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.hidden(self.embedding(tokens))))


def made(strategy: str | None, optimizer: str) -> dict[str, Any]:
    torch.manual_seed(3)
    net = Net()
    if strategy is not None:
        net = prepare_model(net, parallel_strategy=strategy)
    if optimizer == "adam":
        decay = [p for p in net.parameters() if p.ndim > 1]
        rest = [p for p in net.parameters() if p.ndim < 2]
        chosen = torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}])
    else:
        chosen = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return {
        "model": net,
        "optimizer": chosen,
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(chosen, [1, 5]),
        "epoch": 0,
    }


def step(state: dict[str, Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 7, (6,), generator=generator)
    loss = nn.functional.cross_entropy(state["model"](tokens), tokens)
    state["optimizer"].zero_grad()
    loss.backward()
    state["optimizer"].step()
    state["scheduler"].step()
    state["epoch"] += 1


def whole(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def contents(state: dict[str, Any]) -> dict[str, Any]:
    """Everything in a state, with tensors in full, by names without wrappers."""
    model = state["model"]
    plain = {name.removeprefix("module."): one for name, one in model.state_dict().items()}
    names = {p: name.removeprefix("module.") for name, p in model.named_parameters()}
    moments = {
        f"{names[p]}/{key}": whole(one).clone() if torch.is_tensor(one) else one
        for p, entries in state["optimizer"].state.items()
        for key, one in entries.items()
    }
    groups = [
        {**group_, "params": [names[p] for p in group_["params"]]}
        for group_ in state["optimizer"].param_groups
    ]
    return {
        "model": {name: whole(one).clone() for name, one in plain.items()},
        "moments": moments,
        "groups": groups,
        "scheduler": state["scheduler"].state_dict(),
        "epoch": state["epoch"],
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(map(str, sorted(one))) == list(map(str, sorted(other)))
        for key in one:
            assert_same(one[key], other[key])
    elif torch.is_tensor(one):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert type(one) is type(other)
        assert one == other


def trained_and_saved(strategy: str, optimizer: str, root: str) -> dict[str, Any]:
    state = made(strategy, optimizer)
    for seed in range(3):
        step(state, seed * 10 + group.get_rank())
    directory = os.path.join(root, f"rank-{group.get_rank()}")
    save_state(state, directory)
    return contents(state)


def loaded(strategy: str | None, optimizer: str, directory: str) -> dict[str, Any]:
    state = made(strategy, optimizer)
    load_state(state, directory)
    found = contents(state)
    step(state, 1)  # what was loaded can be trained
    return found


def merge(root: Path) -> str:
    """What a report of all ranks makes of their directories: one, with the files of all."""
    target = root / "checkpoint"
    target.mkdir()
    for rank in sorted(root.glob("rank-*")):
        for file in rank.iterdir():
            assert not (target / file.name).exists()
            shutil.copy(file, target)
    return str(target)


@pytest.mark.parametrize(("strategy", "optimizer"), [("ddp", "sgd"), ("fsdp", "adam")])
@pytest.mark.always("fsdp-adam")
def test_saved_on_two_loaded_on_any(
    workers: Run, tmp_path: Path, strategy: str, optimizer: str
) -> None:
    """Model, buffers, optimizer, scheduler and numbers come back to the same bits on 1, 3 and 4."""
    saved, other = workers(2, trained_and_saved, strategy, optimizer, str(tmp_path))
    running = {name: other["model"].pop(name) for name in list(other["model"]) if "run" in name}
    directory = merge(tmp_path)
    assert running.keys() < saved["model"].keys()
    assert_same({**other["model"], **{n: saved["model"][n] for n in running}}, saved["model"])
    assert_same(loaded(None, optimizer, directory), saved)
    for ranks in (3, 4):
        for found in workers(ranks, loaded, strategy, optimizer, directory):
            assert_same(found, saved)


def test_files(workers: Run, tmp_path: Path) -> None:
    """Ranks write files of their own; with DDP the others of rank 0 have nothing to write."""
    workers(2, trained_and_saved, "ddp", "sgd", str(tmp_path / "ddp"))
    workers(2, trained_and_saved, "fsdp", "sgd", str(tmp_path / "fsdp"))
    found = {
        str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/rank-*/*") if file.is_file()
    }
    assert found == {
        "ddp/rank-0/state-00000-of-00002.safetensors",
        "ddp/rank-0/state.index.json",
        "fsdp/rank-0/state-00000-of-00002.safetensors",
        "fsdp/rank-0/state.index.json",
        "fsdp/rank-1/state-00001-of-00002.safetensors",
    }


def test_sharded_saves_load_into_other_strategies(workers: Run, tmp_path: Path) -> None:
    """What FSDP saved DDP loads, and the other way round."""
    for saving, loading in (("fsdp", "ddp"), ("ddp", "fsdp")):
        root = tmp_path / saving
        saved, _ = workers(2, trained_and_saved, saving, "adam", str(root))
        for found in workers(3, loaded, loading, "adam", merge(root)):
            assert_same(found, saved)


def each_its_own(root: str) -> None:
    rank = group.get_rank()
    state: dict[str, Any] = {"common": torch.arange(3), f"rng/{rank}": torch.full((2,), rank)}
    state[f"note/{rank}"] = f"of {rank}"
    save_state(state, os.path.join(root, f"rank-{rank}"))


def test_keys_of_some_ranks(workers: Run, tmp_path: Path) -> None:
    """A key may be on one rank only, and is there for all that load."""
    workers(2, each_its_own, str(tmp_path))
    state: dict[str, Any] = dict.fromkeys(["common", "rng/0", "rng/1", "note/0", "note/1"])
    load_state(state, merge(tmp_path))
    assert state["rng/0"].tolist() == [0, 0]
    assert state["rng/1"].tolist() == [1, 1]
    assert (state["note/0"], state["note/1"]) == ("of 0", "of 1")


def differing(kind: str, root: str) -> None:
    rank = group.get_rank()
    values: dict[str, Any] = {
        "value": rank,
        "tensor": torch.full((2,), rank),
        "shape": torch.zeros(rank + 1),
        "object": {0: 1, 1: object()}[rank],
    }
    save_state({"seen": {kind: values[kind]}}, os.path.join(root, f"rank-{rank}"))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("value", "seen/value differs between rank 1 and a lower one: 1 and 0"),
        ("tensor", r"seen/tensor differs between rank 0 and rank 1: I64 of shape \(2,\), digest"),
        ("shape", r"F32 of shape \(1,\), .* and F32 of shape \(2,\), .*key of its own, such as"),
        ("object", "seen/object cannot be saved without a pickle: it is a builtins.object"),
    ],
)
def test_ranks_that_differ(workers: Run, tmp_path: Path, kind: str, says: str) -> None:
    """All ranks raise, none waits for another, and nothing was written."""
    errors = workers(2, differing, kind, str(tmp_path), failing=True)
    for error in errors:
        with pytest.raises((ValueError, TypeError, RuntimeError), match=says):
            raise error
    if kind == "object":
        assert type(errors[1]) is TypeError
        assert str(errors[0]).startswith("save_state() failed in rank 1 (this is 0): TypeError:")
    assert not list(tmp_path.glob("rank-*/*"))


def one_cannot_load(directory: str) -> None:
    shape = (2, 3 + group.get_rank())
    load_state({"x": torch.zeros(shape)}, directory)


def test_a_rank_that_cannot_load(workers: Run, tmp_path: Path) -> None:
    """The others are told, and do not wait."""
    save_state({"x": torch.ones(2, 3)}, tmp_path / "one")
    errors = workers(2, one_cannot_load, str(tmp_path / "one"), failing=True)
    assert "failed in rank 1 (this is 0): ValueError" in str(errors[0])
    assert "here is a tensor F32 of shape (2, 4), saved was F32 of shape (2, 3)" in str(errors[1])


def one_cannot_write(root: str) -> None:
    from milepost.train.torch.state import safetensors

    rank = group.get_rank()
    if rank == 1:

        def full(*args: Any) -> Any:
            raise OSError(28, "No space left on device")

        safetensors.write = full
    net = prepare_model(nn.Linear(4, 4), parallel_strategy="fsdp")
    save_state({"model": net}, os.path.join(root, f"rank-{rank}"))


def test_a_rank_that_cannot_write(workers: Run, tmp_path: Path) -> None:
    """All ranks raise its error, and there is no index, which would make the state complete."""
    for error in workers(2, one_cannot_write, str(tmp_path), failing=True):
        assert type(error) is OSError
        assert "No space left on device" in str(error)
        assert error.__notes__ == ["raised in rank 1"]
    assert not list(tmp_path.glob("*/state.index.json"))


def saved_into(root: str) -> None:
    net = prepare_model(nn.Linear(4, 4), parallel_strategy="fsdp")
    save_state({"model": net}, os.path.join(root, f"rank-{group.get_rank()}"))


@pytest.mark.chaos
def test_a_file_that_is_missing_or_cut(workers: Run, tmp_path: Path) -> None:
    """The error names the file, and keys that are in it."""
    workers(2, saved_into, str(tmp_path))
    directory = Path(merge(tmp_path))
    file = directory / "state-00001-of-00002.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(CorruptCheckpointError, match=r"has [\d,]+ bytes, and .* written") as cut:
        load_state({"model": nn.Linear(4, 4)}, directory)
    file.unlink()
    with pytest.raises(CorruptCheckpointError, match="Every rank must pass") as missing:
        load_state({"model": nn.Linear(4, 4)}, directory)
    for caught in (cut, missing):
        assert "state-00001-of-00002.safetensors" in str(caught.value)
        assert "model/weight" in str(caught.value)
    (directory / "state.index.json").unlink()
    with pytest.raises(FileNotFoundError, match="only files of others"):
        load_state({"model": nn.Linear(4, 4)}, directory)


def test_pytorchs_own_reader_knows_the_places(workers: Run, tmp_path: Path) -> None:
    """Headers have the member by which it finds where parts belong."""
    workers(2, saved_into, str(tmp_path))
    raw = (tmp_path / "rank-1" / "state-00001-of-00002.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    places = json.loads(header["__metadata__"]["DCP_SHARDING_INFO"])
    assert places["model/weight"]["saved_offsets"] == [2, 0]
    assert header["model/weight"]["shape"] == [2, 4]
