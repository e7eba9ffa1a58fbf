"""What has changed between two search spaces, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from milepost.tune.likeness import alike, plain_text

_LONGEST = 60
_VARIABLES = frozenset({"grid_search", "eval"})


class Unloadable:
    """Stands in a recorded space for a value that cannot be had.

    Args:
        text: its repr, as recorded.
        why: what went wrong.
    """

    def __init__(self, text: str, why: str) -> None:
        self.text = text
        self.why = why

    def __repr__(self) -> str:
        return self.text


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return one line per difference, sorted by key; none when both spaces say the same.

    Example:
        >>> changes({"lr": 0.1, "depth": 3}, {"lr": 0.2, "width": 64})
        ['- depth: 3', '~ lr: 0.1 -> 0.2', '+ width: 64']
    """
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    lines = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            lines.append(f"- {key}: {_shown(before[key])}")
        elif key not in before:
            lines.append(f"+ {key}: {_shown(after[key])}")
        elif not _same(before[key], after[key]):
            lines.append(f"~ {key}: {_shown(before[key])} -> {_shown(after[key])}")
    return lines


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Unloadable):
        return old.text == f"{new!r:.200}" or plain_text(old) == plain_text(new)[:200]
    if _is_variable(old) and _is_variable(new):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return alike(old, new)


def _is_variable(value: Any) -> bool:
    """Whether a value is a grid or an expression; what it holds may not be loadable."""
    return isinstance(value, dict) and len(value) == 1 and bool(value.keys() & _VARIABLES)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a space; a variable is one, however it is written."""
    if isinstance(value, dict) and value and not _is_variable(value):
        for name, member in value.items():
            yield from _leaves(member, f"{key}/{name}" if key else str(name))
    elif key:
        yield key, value


def _shown(value: Any) -> str:
    if _is_variable(value) and "grid_search" in value:
        text = f"grid_search({value['grid_search']!r})"
    else:
        text = plain_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
