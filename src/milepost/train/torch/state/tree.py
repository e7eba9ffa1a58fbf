"""A state, taken apart: tensors by name, and a tree of everything else."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import torch
import xxhash

from milepost.errors import CodecError
from milepost.storage import codec
from milepost.train.torch.state import safetensors
from milepost.train.torch.state.index import Node
from milepost.train.torch.state.parameters import Modules, modules_in, names_in

# Larger ones that are no module's may differ between ranks unnoticed: comparing takes time.
_COMPARED_BYTES: Final = 2**20

_DICTS: Final = {dict: "dict", OrderedDict: "ordered"}

Path = tuple[str, ...]


def is_stateful(value: Any) -> bool:
    """Whether an object hands out and takes its own state."""
    return callable(getattr(value, "state_dict", None)) and callable(
        getattr(value, "load_state_dict", None)
    )


def options_of(optimizer: torch.optim.Optimizer) -> tuple[dict[int, Any], list[dict[str, Any]]]:
    """Return an optimizer's state by number of parameter, and its groups."""
    state = optimizer.state_dict()
    return state["state"], state["param_groups"]


@dataclass
class Description:
    """What a rank has of a state.

    Args:
        modules: the state's.
    """

    modules: Modules
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    #: What must be equal on all ranks that have a tensor: dtype, shape, and a digest of some.
    facts: dict[str, list[Any]] = field(default_factory=dict)

    def node(self, value: Any, path: Path, compared: bool = True) -> Node:
        """Return the node of a value.

        Args:
            value: anything that a state may have.
            path: where it is.
            compared: whether ranks must have equal contents of plain tensors.
        """
        if isinstance(value, torch.Tensor):
            return self._tensor(value, path, compared)
        if isinstance(value, torch.nn.Module):
            return self._module(value, path)
        if isinstance(value, torch.optim.Optimizer):
            return self._optimizer(value, path)
        if is_stateful(value):
            return self.node(value.state_dict(), path, compared)
        if type(value) is Counter:
            return {"counter": self.node(dict(value), path, compared)}
        if type(value) in _DICTS:  # also one without tensors: ranks may have different keys
            return {_DICTS[type(value)]: self._pairs(value, path, compared)}
        try:
            return {"value": msgspec.Raw(codec.encode(value))}
        except CodecError as error:
            if type(value) not in (list, tuple):
                raise _refusal("/".join(path), value) from error
        items = [self.node(item, (*path, str(at)), compared) for at, item in enumerate(value)]
        return {type(value).__name__: items}

    def _pairs(self, value: dict[Any, Any], path: Path, compared: bool) -> list[Any]:
        pairs = []
        for key, item in value.items():
            where = (*path, str(key))
            try:
                raw = msgspec.Raw(codec.encode(key))
            except CodecError as error:
                raise _refusal(f"{'/'.join(where)} (the key)", key) from error
            pairs.append([raw, self.node(item, where, compared)])
        return pairs

    def _tensor(self, tensor: torch.Tensor, path: Path, compared: bool) -> Node:
        name = "/".join(path)
        if name in self.tensors:
            raise ValueError(
                f"Two tensors of the state have the name {name!r}. Rename one; keys that contain "
                "'/' can be mistaken for nested ones."
            )
        _require_form(name, tensor)
        fact: list[Any] = [safetensors.NAMES[tensor.dtype], tuple(tensor.shape)]
        if compared and type(tensor) in (torch.Tensor, torch.nn.Parameter):
            fact.append(_digest(tensor))
        self.tensors[name] = tensor.detach()
        self.facts[name] = fact
        return {"tensor": name}

    def _module(self, module: torch.nn.Module, path: Path) -> Node:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        require_supported(module, "/".join(path))
        # Buffers such as running means differ between ranks of DDP; those of the lowest count.
        return {"module": self._pairs(get_model_state_dict(module), path, compared=False)}

    def _optimizer(self, optimizer: torch.optim.Optimizer, path: Path) -> Node:
        names = names_in(optimizer, self.modules, "/".join(path))
        state, groups = options_of(optimizer)
        named = [
            {**group, "params": [names[number] for number in group["params"]]} for group in groups
        ]
        # Not by PyTorch's own function, which makes a step where there is no state yet.
        by_name = {names[number]: one for number, one in state.items()}
        pairs = self._pairs({"state": by_name, "param_groups": named}, path, compared=False)
        return {"dict": pairs}


def described(state: dict[str, Any], call: str) -> tuple[Node, Description]:
    """Return a state's tree, and its tensors.

    Args:
        state: by names.
        call: the name of what was called.

    Raises:
        TypeError: it is no dict, or a value in it cannot be held.
        ValueError: two tensors have one name, or a tensor has a form that cannot be held.
    """
    require_names(state, call)
    description = Description(dict(modules_in(state)))
    pairs = [
        [msgspec.Raw(codec.encode(name)), description.node(value, (name,))]
        for name, value in state.items()
    ]
    return {"dict": pairs}, description


def require_names(state: Any, call: str) -> None:
    """Check that a state is a dict by names.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        given = type(state).__name__
        if isinstance(state, dict):
            given = f"one with the key {next(n for n in state if not isinstance(n, str))!r}"
        raise TypeError(f"{call}() takes a dict by names, such as {{'model': model}}, got {given}.")


def require_supported(module: torch.nn.Module, path: str) -> None:
    """Check that the parameters of a module have names.

    Raises:
        ValueError: it is wrapped in the first FSDP, which has flattened them.
    """
    from torch.distributed.fsdp import FullyShardedDataParallel

    if any(isinstance(part, FullyShardedDataParallel) for part in module.modules()):
        raise ValueError(
            f"{path} is wrapped in FullyShardedDataParallel. Use fully_shard "
            "(prepare_model(parallel_strategy='fsdp')), or put into the state what "
            "torch.distributed.checkpoint.state_dict.get_state_dict returns instead of the module."
        )


def _require_form(name: str, tensor: torch.Tensor) -> None:
    if tensor.layout is not torch.strided:
        trouble = f"layout {tensor.layout}: save its dense form, tensor.to_dense()"
    elif tensor.device.type == "meta":
        trouble = "no values, for it is on the device 'meta': load or initialise it first"
    elif tensor.dtype not in safetensors.NAMES:
        trouble = (
            f"dtype {tensor.dtype}, which safetensors does not have: convert it, for example with "
            "torch.view_as_real (complex) or .dequantize()"
        )
    else:
        return
    raise ValueError(f"{name} cannot be saved. It has {trouble}.")


def _digest(tensor: torch.Tensor) -> str | None:
    if tensor.numel() * tensor.element_size() > _COMPARED_BYTES:
        return None
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().view(-1)
    return xxhash.xxh3_128_hexdigest(flat.view(torch.uint8).numpy().tobytes())


def _refusal(where: str, value: Any) -> TypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(
        f"{where} cannot be saved without a pickle: it is a {kind}. Save what it is made of "
        "(tensors, numbers, text, lists, dicts), or give the object state_dict() and "
        "load_state_dict()."
    )
