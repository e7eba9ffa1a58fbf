"""What of a directory goes where in a state."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from milepost.api.spelling import did_you_mean
from milepost.storage import codec
from milepost.train.torch.state import safetensors
from milepost.train.torch.state.index import Index, Node
from milepost.train.torch.state.nodes import children, is_dict, members, shown
from milepost.train.torch.state.optimizers import Groups
from milepost.train.torch.state.parameters import modules_in, names_in
from milepost.train.torch.state.tree import is_stateful, require_supported

#: Returns the value that takes the place of the one in the state, when tensors are filled.
Ready = Callable[[], Any]


class Filling:
    """A plan: tensors that are to be filled, and what is to be done then.

    Args:
        state: by names.
        index: of the directory.
    """

    def __init__(self, state: dict[str, Any], index: Index) -> None:
        self._state = state
        self._index = index
        self._modules = dict(modules_in(state))
        #: Tensors by the names that they have in the directory.
        self.targets: dict[str, torch.Tensor] = {}
        #: What does not fit, as sentences.
        self.problems: list[str] = []
        saved = children(index.tree)
        self._ready: dict[str, Ready] = {}
        for name, value in state.items():
            if name not in saved:
                self.problems.append(
                    f"{name!r} was not saved.{did_you_mean(name, map(str, saved))}"
                )
                continue
            self._ready[name] = self._plan(value, saved[name], name)

    def finish(self) -> None:
        """Put everything in its place; tensors have been filled."""
        for name, ready in self._ready.items():
            self._state[name] = ready()

    def _plan(self, value: Any, node: Node, path: str) -> Ready:
        if isinstance(value, torch.Tensor):
            self._target(value, node, path)
            return lambda: value
        if isinstance(value, torch.nn.Module):
            return self._module(value, node, path)
        if isinstance(value, torch.optim.Optimizer):
            return self._optimizer(value, node, path)
        if is_stateful(value):
            state = self._whole(node)
            return lambda: (value.load_state_dict(state()), value)[1]
        if not _is_filled(value):
            return self._whole(node)
        if isinstance(value, dict):
            return self._dict(value, node, path)
        return self._sequence(value, node, path)

    def _sequence(self, value: list[Any] | tuple[Any, ...], node: Node, path: str) -> Ready:
        saved = members(node)
        if saved is None or len(saved) != len(value):
            self.problems.append(
                f"{path}: here is a {type(value).__name__} of {len(value)}, saved was "
                f"{shown(node)}{'' if saved is None else f' of {len(saved)}'}."
            )
            return lambda: value
        items = [
            self._plan(item, one, f"{path}/{at}")
            for at, (item, one) in enumerate(zip(value, saved, strict=True))
        ]
        if isinstance(value, tuple):
            return lambda: tuple(ready() for ready in items)

        def filled() -> Any:
            value[:] = [ready() for ready in items]
            return value

        return filled

    def _dict(self, value: dict[Any, Any], node: Node, path: str) -> Ready:
        saved = self._matched(value, node, path)
        items = {
            key: self._plan(item, saved[key], f"{path}/{key}")
            for key, item in value.items()
            if key in saved
        }

        def filled() -> Any:
            value.update({key: ready() for key, ready in items.items()})
            return value

        return filled

    def _module(self, module: torch.nn.Module, node: Node, path: str) -> Ready:
        from torch.distributed.checkpoint.state_dict import (
            get_model_state_dict,
            set_model_state_dict,
        )

        require_supported(module, path)
        state = get_model_state_dict(module)
        ready = self._dict(state, node, path)

        def loaded() -> Any:
            set_model_state_dict(module, ready())
            return module

        return loaded

    def _optimizer(self, optimizer: torch.optim.Optimizer, node: Node, path: str) -> Ready:
        names = names_in(optimizer, self._modules, path)
        saved = children(node)
        if set(saved) != {"state", "param_groups"}:
            self.problems.append(f"{path}: here is an optimizer, saved was {shown(node)}.")
            return lambda: optimizer
        options = self._whole(saved["param_groups"])
        those = [children(one)["params"] for one in members(saved["param_groups"]) or ()]
        groups = Groups(optimizer, names, [self._whole(one)() for one in those])
        self.problems += [f"{path}: {trouble}" for trouble in groups.problems]
        parameters = dict(zip(names, groups.parameters, strict=True))
        state: dict[str, dict[str, Ready]] = {}
        for name, entries in children(saved["state"]).items():
            if name in parameters:
                state[name] = {
                    key: self._entry(parameters[name], key, one)
                    for key, one in children(entries).items()
                }

        def loaded() -> Any:
            groups.load(
                options(),
                {name: {key: ready() for key, ready in one.items()} for name, one in state.items()},
            )
            return optimizer

        return loaded

    def _entry(self, parameter: torch.Tensor, key: Any, node: Node) -> Ready:
        """What an optimizer has for a parameter; sharded as the parameter is, if it is like it."""
        name = node.get("tensor")
        stored = self._index.tensors.get(name) if name else None
        # Optimizers want their count of steps on the CPU.
        if stored is None or stored.shape != tuple(parameter.shape) or key == "step":
            return self._whole(node)
        like = parameter.detach()
        target = torch.empty_like(like, dtype=safetensors.DTYPES[stored.dtype])
        self.targets[str(name)] = target
        return lambda: target

    def _target(self, tensor: torch.Tensor, node: Node, path: str) -> None:
        name = node.get("tensor")
        if name is None:
            self.problems.append(f"{path}: here is a tensor, saved was {shown(node)}.")
            return
        stored = self._index.tensors[name]
        here = (safetensors.NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
        if here != (stored.dtype, stored.shape):
            self.problems.append(
                f"{path}: here is a tensor {here[0]} of shape {here[1]}, saved was {stored.dtype} "
                f"of shape {stored.shape}."
            )
        elif tensor.device.type == "meta":
            self.problems.append(
                f"{path} is on the device 'meta', without memory: call module.to_empty(device=...)."
            )
        else:
            self.targets[name] = tensor.detach()

    def _matched(self, value: Iterable[Any], node: Node, path: str) -> dict[Any, Node]:
        """The nodes of a dict that must have the same keys."""
        saved = children(node)
        if not is_dict(node):
            self.problems.append(f"{path}: here is a dict, saved was {shown(node)}.")
            return {}
        for key in value:
            if key not in saved:
                hint = did_you_mean(key, (one for one in saved if isinstance(one, str)))
                self.problems.append(f"{path}/{key} was not saved.{hint}")
        here = set(value)
        self.problems += [
            f"{path}/{key} was saved, and there is no place for it here."
            for key in saved
            if key not in here
        ]
        return saved

    def _whole(self, node: Node) -> Ready:
        """A value as it was saved, its tensors in full on the CPU."""
        ((kind, content),) = node.items()
        if kind == "tensor":
            stored = self._index.tensors[content]
            whole = torch.empty(stored.shape, dtype=safetensors.DTYPES[stored.dtype])
            self.targets[content] = whole
            return lambda: whole
        if kind == "value":
            return lambda: codec.Lifting().lift(content)
        if kind == "counter":
            counts = self._whole(content)
            return lambda: Counter(counts())
        if kind in ("list", "tuple"):
            items = [self._whole(one) for one in content]
            made: Callable[..., Any] = list if kind == "list" else tuple
            return lambda: made(ready() for ready in items)
        pairs = {key: self._whole(one) for key, one in children(node).items()}
        made = OrderedDict if kind == "ordered" else dict
        return lambda: made((key, ready()) for key, ready in pairs.items())


def _is_filled(value: Any) -> bool:
    """Whether there is anything in a value that is filled, not replaced."""
    if isinstance(value, (torch.Tensor, torch.nn.Module)) or is_stateful(value):
        return True
    if isinstance(value, dict):
        return any(map(_is_filled, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_is_filled, value))
