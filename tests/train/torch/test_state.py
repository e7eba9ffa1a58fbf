"""What a state may have, and what is said about what it may not; one process, no group."""

from __future__ import annotations

import collections
import datetime
import itertools
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from milepost.errors import CorruptCheckpointError
from milepost.train.torch import load_state, save_state

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().resolve_conj().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def filled(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Random bits, NaNs and infinities among them."""
    size = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (size,), dtype=torch.uint8)
    return raw.view(dtype).view(shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """So do scalars, empty tensors, views that are not contiguous, and tensors of one memory."""
    base = filled(dtype, (6, 4))
    state = {
        "base": base,
        "scalar": filled(dtype, ()),
        "empty": filled(dtype, (0, 3)),
        "turned": base.t(),
        "slice": base[1::2, 1:3],
        "same": base,
    }
    save_state(state, tmp_path)
    target = {name: torch.zeros_like(one) for name, one in state.items()}
    fresh: dict[str, Any] = dict.fromkeys(state)
    load_state(target, tmp_path)
    load_state(fresh, tmp_path)
    for name, one in state.items():
        for found in (target[name], fresh[name]):
            assert (found.dtype, found.shape) == (one.dtype, one.shape)
            assert bits(found) == bits(one)


def test_views_of_numbers_that_are_computed_when_read(tmp_path: Path) -> None:
    """Conjugated and negated views are saved as what they show."""
    value = torch.tensor([1 + 2j, 3 - 4j])
    save_state({"conj": value.conj(), "imag": value.conj().imag}, tmp_path)
    state: dict[str, Any] = {"conj": None, "imag": None}
    load_state(state, tmp_path)
    assert state["conj"].tolist() == [1 - 2j, 3 + 4j]
    assert state["imag"].tolist() == [-2.0, 4.0]


def test_values(tmp_path: Path) -> None:
    """Everything that is no tensor comes back equal, with its type, at any depth."""
    values = {
        "numbers": [1, 2**100, 1.5, math.inf, -0.0, True, None, 1j],
        "text": "ä\n\ud800",
        "bytes": b"\x00\xff",
        "tuple": (1, (2, [3])),
        "set": {1, 2},
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "keys": {1: "int", "1": "str", (2, 3): "tuple", "$": "tag"},
        "counter": collections.Counter({30: 1}),
        "ordered": collections.OrderedDict(b=1, a=2),
        "random": random.getstate(),
        "numpy": numpy.random.default_rng(0).bit_generator.state,
        "array": numpy.arange(6.0).reshape(2, 3),
        "empty": [{}, [], ()],
    }
    mixed = {"deep": [{"t": torch.ones(2), 3: ("x", torch.zeros(()))}], **values}
    save_state({"values": values, "mixed": mixed, "number": 7}, tmp_path)
    state: dict[str, Any] = {"values": None, "mixed": 0, "number": None}
    load_state(state, tmp_path)
    array = state["values"].pop("array")
    assert array.dtype == numpy.float64
    assert array.tolist() == values.pop("array").tolist()  # type: ignore[attr-defined]
    assert state["values"] == values
    assert [type(one) for one in state["values"].values()] == list(map(type, values.values()))
    deep = state["mixed"]["deep"][0]
    assert deep["t"].tolist() == [1, 1]
    assert deep[3][0] == "x"
    assert deep[3][1].shape == ()
    assert state["number"] == 7


def test_tensors_are_filled_where_they_are(tmp_path: Path) -> None:
    """In dicts, lists and tuples; other values are replaced; containers stay the same objects."""
    save_state(
        {"a": {"x": torch.ones(2), "n": 3}, "b": [torch.ones(1), (torch.ones(1), 4)]}, tmp_path
    )
    x, y, z = torch.zeros(2), torch.zeros(1), torch.zeros(1, requires_grad=True)
    state: dict[str, Any] = {"a": {"x": x, "n": 0}, "b": [y, (z, 0)]}
    inner, items = state["a"], state["b"]
    load_state(state, str(tmp_path))
    assert state["a"] is inner
    assert state["b"] is items
    assert inner["x"] is x
    assert items[0] is y
    assert items[1][0] is z
    assert (x.tolist(), y.tolist(), z.tolist()) == ([1, 1], [1], [1])
    assert (inner["n"], items[1][1]) == (3, 4)


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), amsgrad=True),
    "adagrad": torch.optim.Adagrad,
    "adafactor": torch.optim.Adafactor,
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=3),
}
SCHEDULERS: dict[str, Any] = {
    "multi": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "plateau": lr_scheduler.ReduceLROnPlateau,
}


def training(optimizer: str, scheduler: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).to(dtype)
    model[2].bias.requires_grad_(False)
    chosen = OPTIMIZERS[optimizer](list(model.parameters()))
    return {"model": model, "optimizer": chosen, "scheduler": SCHEDULERS[scheduler](chosen)}


def trained(state: dict[str, Any], steps: int) -> list[float]:
    losses = []
    dtype = next(state["model"].parameters()).dtype
    for at in range(steps):
        x = torch.linspace(at, at + 1, 12, dtype=dtype).view(4, 3)

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            state["optimizer"].zero_grad()
            loss = state["model"](x).square().mean()
            loss.backward()
            return loss

        loss = state["optimizer"].step(closure)
        plateau = isinstance(state["scheduler"], lr_scheduler.ReduceLROnPlateau)
        state["scheduler"].step(*([loss.item()] if plateau else []))
        losses.append(loss.item())
    return losses


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    ("optimizer", "scheduler", "dtype"),
    [
        *((name, "multi", torch.float32) for name in OPTIMIZERS),
        *(("momentum", name, torch.float32) for name in SCHEDULERS),
        ("adam", "multi", torch.bfloat16),
    ],
)
def test_training_goes_on_as_if_it_had_not_been_cut(
    tmp_path: Path, optimizer: str, scheduler: str, dtype: torch.dtype, steps: int
) -> None:
    """Saving changes nothing, also before the first step; loading leaves nothing of before."""
    state = training(optimizer, scheduler, dtype)
    trained(state, steps)
    save_state(state, tmp_path)
    other = training(optimizer, scheduler, dtype)
    trained(other, 1)
    load_state(other, tmp_path)
    uncut = training(optimizer, scheduler, dtype)
    trained(uncut, steps)
    assert trained(state, 3) == trained(other, 3) == trained(uncut, 3)
    for name, one in uncut["model"].state_dict().items():
        assert bits(one) == bits(other["model"].state_dict()[name]), name


def test_several_models_and_optimizers(tmp_path: Path) -> None:
    """An optimizer finds its modules wherever they are; one may have those of two."""

    def made(value: float) -> dict[str, Any]:
        nets = {"g": nn.Linear(2, 2), "d": [nn.Linear(2, 1)]}
        both = torch.optim.SGD([*nets["g"].parameters(), *nets["d"][0].parameters()], momentum=0.9)
        alone = torch.optim.Adam(nets["d"][0].parameters())
        for p in both.param_groups[0]["params"]:
            p.grad = torch.full_like(p, value)
        both.step()
        alone.step()
        return {"nets": nets, "both": both, "alone": alone}

    saved, state = made(1.0), made(2.0)
    save_state(saved, tmp_path)
    load_state(state, tmp_path)
    for name in ("both", "alone"):
        one, other = saved[name].state_dict()["state"], state[name].state_dict()["state"]
        assert one.keys() == other.keys()
        for number, entries in one.items():
            for key, value in entries.items():
                assert torch.equal(value, other[number][key])


def test_groups_in_another_order(tmp_path: Path) -> None:
    """Groups are found by their parameters' names, and options go with them."""

    def made(turned: bool) -> dict[str, Any]:
        net = nn.Linear(2, 2)
        groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.2}]
        return {"net": net, "opt": torch.optim.SGD(groups[::-1] if turned else groups, lr=1.0)}

    save_state(made(turned=False), tmp_path)
    state = made(turned=True)
    state["opt"].param_groups[0]["lr"] = state["opt"].param_groups[1]["lr"] = 9.0
    load_state(state, tmp_path)
    assert [group["lr"] for group in state["opt"].param_groups] == [0.2, 0.1]


class Extra(nn.Linear):
    """A module that has more to keep than tensors."""

    note: Any = None

    def get_extra_state(self) -> Any:
        return {"note": self.note, "t": torch.ones(2)}

    def set_extra_state(self, state: Any) -> None:
        self.note = state["note"]


def test_extra_state_and_compiled_modules(tmp_path: Path) -> None:
    """Extra state of modules is kept; a wrapper of the compiler has no part in names."""
    net = Extra(2, 2)
    net.note = ("x", 1)
    save_state(
        {"net": torch.compile(net, backend="eager"), "opt": torch.optim.SGD(net.parameters())},
        tmp_path,
    )
    other = Extra(2, 2)
    load_state({"net": other, "opt": torch.optim.SGD(other.parameters())}, tmp_path)
    assert other.note == ("x", 1)
    assert torch.equal(other.weight, net.weight)


def test_a_part_of_what_was_saved(tmp_path: Path) -> None:
    """Who only validates loads the model only; a dict of tensors fits a module."""
    net = nn.Linear(2, 2)
    save_state({"net": net.state_dict(), "opt": None, "epoch": 3}, tmp_path)
    other = nn.Linear(2, 2)
    load_state({"net": other}, tmp_path)
    assert torch.equal(other.weight, net.weight)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    """The files are JSON and safetensors."""
    save_state(training("adam", "multi"), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "state-00000-of-00001.safetensors",
        "state.index.json",
    ]
    json.loads((tmp_path / "state.index.json").read_bytes())
    raw = (tmp_path / "state-00000-of-00001.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    del header["__metadata__"]
    ends = sorted(tuple(one["data_offsets"]) for one in header.values())
    assert size % 8 == 0
    assert ends[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))  # no holes
    assert ends[-1][1] == len(raw) - 8 - size


class Thing:
    pass


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ([1], TypeError, r"takes a dict by names, such as \{'model': model\}, got list"),
        ({1: 2}, TypeError, "got one with the key 1"),
        ({"a": {"b": [Thing()]}}, TypeError, r"a/b/0 cannot be saved without a pickle: .*\.Thing"),
        ({"a": {Thing(): 1}}, TypeError, r"\(the key\) cannot be saved"),
        (
            {"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)},
            ValueError,
            "Two tensors of the state have the name 'a/b'",
        ),
        ({"a": torch.ones(2).to_sparse()}, ValueError, "a cannot be saved. It has layout"),
        ({"a": torch.ones(2, device="meta")}, ValueError, "no values, for it is on the device"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, ValueError, "torch.view_as_real"),
        (
            {"opt": torch.optim.SGD([torch.ones(2, requires_grad=True)])},
            ValueError,
            r"opt: a parameter of group 0, of shape \(2,\), is in no module .* has none",
        ),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, state: Any, error: Any, says: str) -> None:
    """The error names the key and says what to do; nothing is written."""
    with pytest.raises(error, match=says):
        save_state(state, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_directory_is_written_once(tmp_path: Path) -> None:
    """A second call would mix two states."""
    save_state({"a": torch.ones(1)}, tmp_path / "new")
    with pytest.raises(FileExistsError, match="Use a new one for each checkpoint"):
        save_state({"a": torch.ones(1)}, tmp_path / "new")


def test_several_workers_without_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would write as the only one, and their files would not fit together."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"in one of 2 workers .* there is none"):
        save_state({}, tmp_path)


def saved_linear(directory: Path) -> None:
    net = nn.Linear(3, 2)
    opt = torch.optim.SGD(net.parameters(), momentum=0.9)
    state = {"net": net, "opt": opt, "list": [torch.ones(1), 2], "n": 5, "t": torch.ones(2)}
    save_state(state, directory)


def linear(rows: int = 2, **kwargs: Any) -> nn.Module:
    return nn.Linear(3, rows, **kwargs)


def with_optimizer(net: nn.Module, *groups: Any) -> dict[str, Any]:
    return {"net": net, "opt": torch.optim.SGD(groups or net.parameters())}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: {"nett": None}, "'nett' was not saved. Did you mean 'net'?"),
        (lambda: {"net": linear(3)}, "net/weight: here is a tensor F32 of shape (3, 3), saved was"),
        (lambda: {"net": linear().half()}, "net/bias: here is a tensor F16 of shape (2,), saved"),
        (lambda: {"net": linear(bias=False)}, "net/bias was saved, and there is no place for it"),
        (lambda: {"net": nn.Sequential(linear())}, "net/0.weight was not saved."),
        (lambda: {"net": linear(device="meta")}, "call module.to_empty(device=...)"),
        (lambda: {"t": torch.ones(2, dtype=torch.int32)}, "t: here is a tensor I32"),
        (lambda: {"n": torch.ones(1)}, "n: here is a tensor, saved was 5."),
        (lambda: {"n": linear()}, "n: here is a dict, saved was 5."),
        (lambda: {"list": [torch.ones(1)]}, "list: here is a list of 1, saved was a list of 2."),
        (lambda: {"t": [torch.ones(1)]}, "t: here is a list of 1, saved was a tensor."),
        (lambda: with_optimizer(linear()) | {"opt": None, "t": linear()}, "t: here is a dict"),
        (
            lambda: {"net": linear(), "n": with_optimizer(net := linear())["opt"], "m": net},
            "'m' was not saved.",
        ),
        (
            lambda: with_optimizer(net := linear(), {"params": [net.weight]}),
            "opt: it lacks parameters that the saved optimizer had: net/bias.",
        ),
        (
            lambda: with_optimizer(
                net := linear(), {"params": [net.weight]}, {"params": [net.bias]}
            ),
            "opt: no saved group has just the parameters of group 0 here, which are net/weight.",
        ),
    ],
)
def test_what_does_not_fit(tmp_path: Path, make: Any, says: str) -> None:
    """The error names the key and both sides; nothing was changed."""
    saved_linear(tmp_path)
    state = make()
    before = {key: value for key, value in state.items() if torch.is_tensor(value)}
    copies = {key: value.clone() for key, value in before.items()}
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        load_state(state, tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert all(torch.equal(value, copies[key]) for key, value in before.items())


def test_an_optimizer_needs_its_module(tmp_path: Path) -> None:
    """Names of parameters are its module's."""
    saved_linear(tmp_path)
    with pytest.raises(ValueError, match="is in no module of the state"):
        load_state({"opt": with_optimizer(linear())["opt"]}, tmp_path)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    """The first ones are shown."""
    save_state({"net": nn.Linear(1, 1)}, tmp_path)
    with pytest.raises(ValueError, match="- and 14 more"):
        load_state({"net": nn.Sequential(*(nn.Linear(1, 1) for _ in range(10)))}, tmp_path)


def test_directories_without_a_state(tmp_path: Path) -> None:
    """The error says what is there instead."""
    with pytest.raises(FileNotFoundError, match="It has: nothing"):
        load_state({}, tmp_path)
    (tmp_path / "model.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"no state.index.json in it. It has: model.pt"):
        load_state({}, tmp_path)
    with pytest.raises(FileNotFoundError, match="It is no directory"):
        load_state({}, tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        load_state({}, tmp_path / "none")
    (tmp_path / ".metadata").touch()
    with pytest.raises(FileNotFoundError, match=r"torch.distributed.checkpoint.load reads"):
        load_state({}, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw[:-5], "is not an index that save_state wrote"),
        (lambda raw: b"{}", "is not an index that save_state wrote"),
        (lambda raw: raw.replace(b'"version":1', b'"version":2'), "A newer one may have written"),
        (lambda raw: raw.replace(b".torch.state", b".other"), "has format 'milepost.train.other'"),
        (lambda raw: raw.replace(b'"state-0', b'"../state-0'), r"names the file '\.\./state-0"),
        (lambda raw: raw.replace(b'"file":"state-0', b'"file":"/etc/x'), "names the file '/etc/x"),
    ],
)
def test_a_damaged_index(tmp_path: Path, change: Any, says: str) -> None:
    """The error names the file."""
    saved_linear(tmp_path)
    path = tmp_path / "state.index.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptCheckpointError, match=says) as caught:
        load_state({"n": 0}, tmp_path)
    assert str(path) in str(caught.value)
