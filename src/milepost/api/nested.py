"""Nested dicts and their flat form, in which a slash joins the keys.

``{"a": {"b": 1}}`` is ``{"a/b": 1}``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final


class _Missing:
    """Type of :data:`MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for "no default was given".
MISSING: Final = _Missing()


def flatten_dict(
    dt: Mapping[Any, Any],
    delimiter: str = "/",
    prevent_delimiter: bool = False,
    flatten_list: bool = False,
) -> dict[Any, Any]:
    """Return the flat form of a nested dict.

    Values that were nested come after those that were not. Empty dicts inside vanish.

    Args:
        dt: the nested dict; it is not changed.
        delimiter: joins the keys.
        prevent_delimiter: refuse keys that contain the delimiter.
        flatten_list: also flatten lists, with positions as keys; else they stay values.

    Raises:
        ValueError: a key contains the delimiter and ``prevent_delimiter`` is set.
    """
    nested = (Mapping, list) if flatten_list else (Mapping,)
    flat: dict[Any, Any] = dict(dt)
    if prevent_delimiter:
        _refuse_delimiter(flat, delimiter)
    while any(isinstance(value, nested) for value in flat.values()):
        deeper: dict[Any, Any] = {}
        for key in [k for k, value in flat.items() if isinstance(value, nested)]:
            value = flat.pop(key)
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for inner, member in items:
                if prevent_delimiter:
                    _refuse_delimiter((inner,), delimiter)
                deeper[f"{key}{delimiter}{inner}"] = member
        flat.update(deeper)
    return flat


def _refuse_delimiter(keys: Any, delimiter: str) -> None:
    for key in keys:
        if isinstance(key, str) and delimiter in key:
            raise ValueError(f"The key {key!r} contains {delimiter!r}, which joins nested keys.")


def unflatten_dict(dt: Mapping[str, Any], delimiter: str = "/") -> dict[str, Any]:
    """Return the nested form of a flat dict.

    Raises:
        TypeError: a key is a value and a parent at once.
    """
    nested: dict[str, Any] = {}
    for path, value in dt.items():
        *parents, last = path.split(delimiter) if isinstance(path, str) else [path]
        inner: Any = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise TypeError(f"{path!r} cannot be nested: {parent!r} is a value already.")
        inner[last] = value
    return nested


def unflatten_list_dict(dt: Mapping[str, Any], delimiter: str = "/") -> Any:
    """Return the nested form of a flat dict; keys 0, 1, 2 ... make a list."""
    return _with_lists(unflatten_dict(dt, delimiter))


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _with_lists(member) for key, member in value.items()}
    if inner and list(inner) == [str(i) for i in range(len(inner))]:
        return list(inner.values())
    return inner


def unflattened_lookup(
    flat_key: str, lookup: Any, delimiter: str = "/", default: Any = MISSING
) -> Any:
    """Return a value of a nested dict or list by its flat key, such as ``a/0/b``.

    A key that is there literally is used first.

    Raises:
        KeyError: there is no such key and no default.
        IndexError: there is no such position in a list.
    """
    if isinstance(lookup, Mapping) and flat_key in lookup:
        return lookup[flat_key]
    value = lookup
    for part in flat_key.split(delimiter):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_position(part):
            value = value[int(part)]
        elif default is not MISSING:
            return default
        else:
            raise KeyError(flat_key)
    return value


def _is_position(part: str) -> bool:
    return part.lstrip("-").isdigit()


def merge_dicts(d1: Mapping[Any, Any], d2: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a deep copy of ``d1`` into which ``d2`` is merged, level by level."""
    merged: dict[Any, Any] = copy.deepcopy(dict(d1))
    return deep_update(merged, d2, new_keys_allowed=True)


def deep_update(
    original: dict[Any, Any],
    new_dict: Mapping[Any, Any],
    new_keys_allowed: bool = False,
    allow_new_subkey_list: Sequence[str] | None = None,
    override_all_if_type_changes: Sequence[str] | None = None,
    override_all_key_list: Sequence[str] | None = None,
) -> dict[Any, Any]:
    """Merge one dict into another, level by level, and return the latter.

    Args:
        original: is changed.
        new_dict: its values win.
        new_keys_allowed: whether keys that ``original`` lacks may be added.
        allow_new_subkey_list: top keys below which any key may be added.
        override_all_if_type_changes: top keys whose dict is replaced as a whole when its
            ``type`` changes.
        override_all_key_list: top keys whose dict is always replaced as a whole.

    Raises:
        KeyError: a key is new and may not be.
    """
    subkeys = allow_new_subkey_list or ()
    for key, value in new_dict.items():
        if key not in original and not new_keys_allowed:
            raise KeyError(f"{key!r} is not among {', '.join(map(repr, original))}.")
        old = original.get(key)
        if not (isinstance(old, dict) and isinstance(value, Mapping)):
            original[key] = value
        elif key in (override_all_key_list or ()) or (
            key in (override_all_if_type_changes or ())
            and "type" in value
            and value["type"] != old.get("type")
        ):
            original[key] = dict(value)
        else:
            deep_update(old, value, new_keys_allowed or key in subkeys)
    return original
