"""Names of parameters, whatever their module is wrapped in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

#: Modules by their names in a state.
Modules = Mapping[str, torch.nn.Module]

#: What wrappers call the module that they wrap; no other module has such names.
_WRAPPERS: Final = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


def modules_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield the modules of a state with their names."""
    if isinstance(value, torch.nn.Module):
        yield "/".join(path), value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from modules_in(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from modules_in(item, (*path, str(at)))


def names_in(optimizer: torch.optim.Optimizer, modules: Modules, path: str) -> list[str]:
    """Return the names of an optimizer's parameters, in its order.

    Args:
        optimizer: any.
        modules: those of the state.
        path: the optimizer's name there, for the error.

    Raises:
        ValueError: a parameter is in none of the modules.
    """
    names = {
        id(parameter): f"{root}/{_plain(module, name)}"
        for root, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    found = []
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ValueError(
                    f"{path}: a parameter of group {number}, of shape {tuple(parameter.shape)}, is "
                    f"in no module of the state, which has {', '.join(modules) or 'none'}. Put "
                    "the optimizer's module into the state as well; with fully_shard, make the "
                    "optimizer after it."
                )
            found.append(names[id(parameter)])
    return found


def _plain(module: torch.nn.Module, name: str) -> str:
    kept = []
    at: Any = module
    for part in name.split("."):
        wrapped = part in _WRAPPERS or (
            part == "module" and isinstance(at, torch.nn.parallel.DistributedDataParallel)
        )
        if not wrapped:
            kept.append(part)
        at = getattr(at, part)
    return ".".join(kept)
