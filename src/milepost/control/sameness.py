"""Whether a configuration that is proposed once more is the recorded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from milepost.errors import CodecError
from milepost.journal import objects
from milepost.storage import codec


def differs(
    config: dict[str, Any], recorded: msgspec.Raw, get_object: Callable[[str], bytes]
) -> bool:
    """Whether a configuration is certainly another one than the recorded one.

    Pickled values may have other bytes though nothing has changed (functions, objects of a
    script's own classes). They are compared by ``==`` where that compares what they hold, and
    differ in no way that anybody could tell otherwise.

    Args:
        config: proposed now.
        recorded: codec JSON.
        get_object: returns the bytes of a stored value.
    """
    pickles: dict[str, bytes] = {}

    def hold(data: bytes) -> str:
        digest = objects.digest(data)
        pickles[digest] = data
        return digest

    try:
        now = codec.encode(config, hold)
    except CodecError:
        return False  # nobody can tell
    if now == bytes(recorded):
        return False

    def load(form: Any, get: Callable[[str], bytes]) -> Any:
        return codec.decode(msgspec.json.encode(form), get)

    def objects_differ(new: Any, old: Any) -> bool:
        if new["v"] == old["v"]:
            return False
        if new["type"] != old["type"]:
            return True
        try:
            value = load(new, pickles.__getitem__)
            before, twin = load(old, get_object), load(old, get_object)
            if isinstance(value, type):
                return bool(new["repr"] != old["repr"])
            if type(value) is not type(before):  # of a class that was made twice
                return False
            # What is not even equal to its own copy is equal by identity only.
            return bool(before == twin) and not bool(value == before)
        except Exception:  # noqa: BLE001 - users' code, and nobody can tell
            return False

    return _differ(msgspec.json.decode(now), msgspec.json.decode(recorded), objects_differ)


def _differ(new: Any, old: Any, objects_differ: Callable[[Any, Any], bool]) -> bool:
    if isinstance(new, dict) and isinstance(old, dict):
        if _is_object(new) and _is_object(old):
            return objects_differ(new, old)
        if new.keys() != old.keys():
            return True
        if new.get(codec.TAG) in ("set", "frozenset") and _holds_objects(new["v"]):
            return len(new["v"]) != len(old["v"])  # their order says nothing
        return any(_differ(value, old[key], objects_differ) for key, value in new.items())
    if isinstance(new, list) and isinstance(old, list):
        return len(new) != len(old) or any(
            _differ(one, other, objects_differ) for one, other in zip(new, old, strict=True)
        )
    return type(new) is not type(old) or bool(new != old)


def _is_object(form: dict[str, Any]) -> bool:
    return form.get(codec.TAG) == "object"


def _holds_objects(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_object(value) or any(map(_holds_objects, value.values()))
    return isinstance(value, list) and any(map(_holds_objects, value))
