"""Results as text for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Text that YAML would read as something else when it stands without quotes.
_AMBIGUOUS = re.compile(
    r"|~|null|true|false|yes|no|on|off|y|n"
    r"|[-+]?(\d[\d_]*)?\.?\d*([eE][-+]?\d+)?|[-+]?\.(inf|nan)|0[xob][\da-fA-F_]+"
    r"|\d{4}-\d\d?-\d\d?.*|[-+]?\d+(:\d+)+(\.\d*)?|=|<<",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"^[-?:]($|\s)|^[,\[\]{}#&*!|>'\"%@`]|: |:$| #|^\s|\s$|[\x00-\x1f\x7f-\x9f]")


def pretty_print(result: Mapping[str, Any], exclude: Iterable[str] | None = None) -> str:
    """Return a result as YAML, sorted by key.

    Mirrors ``ray.tune.logger.pretty_print``: ``config``, ``hist_stats`` and keys without a value
    are left out.

    Args:
        result: the result.
        exclude: further top keys to leave out.
    """
    hidden = {"config", "hist_stats", *(exclude or ())}
    shown = {k: v for k, v in result.items() if v is not None and k not in hidden}
    return "".join(f"{line}\n" for line in _mapping(shown, 0))


def _mapping(value: Mapping[Any, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, member in sorted(value.items(), key=lambda item: str(item[0])):
        yield from _entry(f"{indent}{_scalar(str(key))}:", _plain(member), depth)


def _entry(head: str, member: Any, depth: int) -> Iterator[str]:
    if isinstance(member, Mapping) and member:
        yield head
        yield from _mapping(member, depth + 1)
    elif isinstance(member, list | tuple) and member:
        yield head
        yield from _sequence(member, depth)
    else:
        yield f"{head} {_scalar(member)}"


def _sequence(value: Iterable[Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for raw in value:
        member = _plain(raw)
        if isinstance(member, Mapping) and member:
            lines = _mapping(member, depth + 1)
        elif isinstance(member, list | tuple) and member:
            lines = _sequence(member, depth + 1)
        else:
            lines = iter([f"{indent}  {_scalar(member)}"])
        # The first line of a member stands behind its dash.
        yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
        yield from lines


def _plain(value: Any) -> Any:
    """Arrays as lists and their scalars as numbers, without importing what made them."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return _text(str(value))


def _number(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    shown = repr(value)
    if "e" in shown and "." not in shown:  # YAML wants a point in a mantissa
        shown = shown.replace("e", ".0e")
    return shown


def _text(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        import json

        return json.dumps(value, ensure_ascii=False)  # a double-quoted string of YAML as well
    if _AMBIGUOUS.fullmatch(value) or _SPECIAL.search(value):
        return "'" + value.replace("'", "''") + "'"
    return value
