"""Looking into a tree of an index."""

from __future__ import annotations

from typing import Any

from milepost.storage import codec
from milepost.train.torch.state.index import Node

_PAIRS = ("dict", "ordered", "module")


def children(node: Node) -> dict[Any, Node]:
    """Return the nodes of a dict or module by key; empty if the node is something else."""
    ((kind, content),) = node.items()
    lift = codec.Lifting().lift
    if kind in _PAIRS:
        return {lift(key): item for key, item in content}
    if kind == "value" and isinstance(content, dict):
        if codec.TAG not in content:
            return {key: {"value": item} for key, item in content.items()}
        if content[codec.TAG] == "dict":
            return {lift(key): {"value": item} for key, item in content["v"]}
    return {}


def members(node: Node) -> list[Node] | None:
    """Return the nodes of a list or tuple; None if the node is something else."""
    ((kind, content),) = node.items()
    if kind in ("list", "tuple"):
        return list(content)
    if kind == "value" and isinstance(content, dict) and content.get(codec.TAG) == "tuple":
        content = content["v"]
    return [{"value": item} for item in content] if isinstance(content, list) else None


def is_dict(node: Node) -> bool:
    """Whether the node is that of a dict or a module, maybe an empty one."""
    return any(kind in _PAIRS for kind in node) or bool(children(node)) or node == {"value": {}}


def shown(node: Node) -> str:
    """Return what a node is, for an error."""
    ((kind, content),) = node.items()
    if kind == "value":
        text = repr(codec.Lifting().lift(content))
        return text if len(text) <= 60 else f"{text[:57]}..."
    return {"ordered": "an OrderedDict", "counter": "a Counter"}.get(kind, f"a {kind}")
