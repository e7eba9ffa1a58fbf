"""What ranks do together, and agree on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import torch.distributed as group
import xxhash

from milepost.train.torch.state.index import Node

R = TypeVar("R")


def position() -> tuple[int, int]:
    """Return this process's rank and how many there are; 0 and 1 without a process group."""
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1


def require_group(call: str) -> None:
    """Check that a worker among several is in a process group.

    Args:
        call: the name of what was called.

    Raises:
        RuntimeError: it is not.
    """
    workers = os.environ.get("WORLD_SIZE", "1")
    if workers != "1" and not (group.is_available() and group.is_initialized()):
        raise RuntimeError(
            f"{call}() in one of {workers} workers (WORLD_SIZE) needs the process group of "
            "torch.distributed, and there is none. Train with a TorchTrainer, which makes it, or "
            "call torch.distributed.init_process_group first."
        )


def together(work: Callable[[], R], call: str) -> R:
    """Do something in every rank, and raise in all when it fails in one.

    Otherwise the others would wait for that one in the next collective operation.

    Raises:
        RuntimeError: it failed in another rank; its own error is raised there.
    """
    failure: Exception | None = None
    result: R | None = None
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - is raised below, when the others know
        failure = error
    rank, ranks = position()
    if ranks > 1:
        told: list[str | None] = [None] * ranks
        own = None if failure is None else f"{type(failure).__name__}: {failure}"
        group.all_gather_object(told, own)
        for other, text in enumerate(told):
            if failure is None and text is not None:
                raise RuntimeError(f"{call} failed in rank {other} (this is {rank}): {text}")
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]


def agreed(tree: Node, facts: dict[str, list[Any]]) -> Node:
    """Return the tree of all ranks; keys may be in that of some only.

    Args:
        tree: this rank's.
        facts: what must be the same for a tensor that several ranks have, by its name.

    Raises:
        ValueError: ranks have different values for one key.
    """
    _, ranks = position()
    if ranks == 1:
        return tree
    own = msgspec.json.encode([tree, facts])
    gathered: list[Any] = [None] * ranks
    group.all_gather_object(gathered, xxhash.xxh3_128_hexdigest(own))
    if len(set(gathered)) == 1:
        return tree  # as a rule: then only digests have been sent
    group.all_gather_object(gathered, own)
    trees: list[Node] = []
    known: dict[str, tuple[int, list[Any]]] = {}
    for rank, raw in enumerate(gathered):
        one, its = msgspec.json.decode(raw)
        trees.append(one)
        for name, fact in its.items():
            first, expected = known.setdefault(name, (rank, fact))
            if fact != expected:
                raise ValueError(
                    f"{name} differs between rank {first} and rank {rank}: {_shown(expected)} and "
                    f"{_shown(fact)}. {_ADVICE}"
                )
    merged = trees[0]
    for rank, one in enumerate(trees):
        merged = _merged(merged, one, "", rank)
    return merged


_ADVICE = (
    "One checkpoint has one value for a key; give what each rank has for itself a key of its own, "
    "such as f'rng/{rank}'."
)


def _shown(fact: list[Any]) -> str:
    return f"{fact[0]} of shape {tuple(fact[1])}" + (f", digest {fact[2][:8]}" if fact[2:] else "")


def _merged(first: Node, other: Node, path: str, rank: int) -> Node:
    if first == other:
        return first
    (kind, members), (its_kind, its_members) = *first.items(), *other.items()
    if kind == its_kind and kind in ("dict", "ordered", "module"):
        pairs = {msgspec.json.encode(key): [key, node] for key, node in members}
        for key, node in its_members:
            raw = msgspec.json.encode(key)
            if raw not in pairs:
                pairs[raw] = [key, node]
            elif kind != "module":  # what a module has beside tensors counts as its tensors do
                pairs[raw] = [key, _merged(pairs[raw][1], node, f"{path}/{key}", rank)]
        return {kind: list(pairs.values())}
    raise ValueError(
        f"{path[1:]} differs between rank {rank} and a lower one: {_text(other)} and "
        f"{_text(first)}. {_ADVICE}"
    )


def _text(node: Node) -> str:
    text = msgspec.json.encode(next(iter(node.values()))).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
