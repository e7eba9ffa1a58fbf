"""Whether an object is set up as another one, which may come from an older process."""

from __future__ import annotations

import functools
import re
import sys
import types
from typing import Any

from milepost.errors import CodecError

_ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")
_DEEPEST = 20


def alike(one: Any, other: Any) -> bool:
    """Tell whether two values say the same: equal values, and objects with equal attributes.

    Functions are compared by their code, since a function that was recorded and loaded is never
    the same object as the one in the script.
    """
    return _alike(one, other, _DEEPEST, set())


def plain_text(value: Any) -> str:
    """Return the repr of a value without addresses in memory, which differ in each process."""
    return _ADDRESS.sub("0x...", repr(value))


def _alike(one: Any, other: Any, depth: int, seen: set[tuple[int, int]]) -> bool:
    if one is other or (id(one), id(other)) in seen:
        return True
    if _kind(one) != _kind(other):
        return False
    if depth == 0:
        return plain_text(one) == plain_text(other)
    # What is being compared further up counts as alike here.
    seen.add((id(one), id(other)))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _alike(value, other[key], depth - 1, seen) for key, value in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            _alike(*pair, depth - 1, seen) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, types.FunctionType | type | types.MethodType | functools.partial):
        from milepost.tune.fingerprint import code_of

        return code_of(one)["digest"] == code_of(other)["digest"]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(one, numpy.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.hasobject:
            return _alike(one.tolist(), other.tolist(), depth - 1, seen)
        return bool(one.tobytes() == other.tobytes())  # without the detour through text
    form = _json(one)
    if form is not None:
        return form == _json(other)
    if _equal(one, other):
        return True
    states = _state(one), _state(other)
    if states == (None, None):
        return plain_text(one) == plain_text(other)
    return _alike(*states, depth - 1, seen)


def _kind(value: Any) -> str:
    # By name: a class that travelled inside a pickle is another object than the script's.
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _json(value: Any) -> bytes | None:
    from milepost.storage import codec

    try:
        return codec.encode(value)
    except CodecError:
        return None


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)  # without a comparison of its own, an object equals itself only
    except Exception:  # noqa: BLE001 - a comparison of users may raise anything
        return False


def _state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object; None when it has none that can be looked at."""
    state = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                state[name] = getattr(value, name)
    return state or None
