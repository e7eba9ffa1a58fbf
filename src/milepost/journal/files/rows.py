"""Result rows as result files show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import msgspec

from milepost.api.nested import flatten_dict
from milepost.storage.codec import Lifting

#: Returns the bytes that are stored under a digest.
GetObject = Callable[[str], bytes]

_KEYS: Final = (str, int, float, bool, type(None))


class _Plain(Lifting):
    """Turns stored values into those that result files show, without unpickling anything."""

    def lift_int(self, form: dict[str, Any], path: tuple[object, ...]) -> Any:
        return form["v"]  # no reader of JSON takes thousands of digits for a number

    def lift_numpy(self, form: dict[str, Any], path: tuple[object, ...]) -> Any:
        if "bytes" in form:
            return str(super().lift_numpy(form, path))
        return self.lift(form["v"], path)

    def lift_object(self, form: dict[str, Any], path: tuple[object, ...]) -> Any:
        return form.get("str", form["repr"])


def plain(raw: bytes | msgspec.Raw, get_object: GetObject | None = None) -> Any:
    """Return a stored value in types that every reader knows; pickled ones as their text.

    Args:
        raw: codec JSON.
        get_object: where the bytes of large arrays come from; without it such an array is shown
            by its type and shape. What is pickled is not opened.
    """
    data = bytes(raw)
    value = msgspec.json.decode(data)
    return value if b'"$"' not in data else _Plain(get_object, _as_text).lift(value)


def _as_text(where: str, text: str, error: Exception) -> str:
    """Shows a stored value that cannot be had; whoever restores the trial hears why."""
    return text


def to_json(value: Any, *, pretty: bool = False) -> str:
    """Return JSON as scripts expect it: ``NaN`` for NaN, lists for arrays, text for the rest."""
    if pretty:
        return json.dumps(_with_str_keys(value), default=_shown, indent=2, sort_keys=True)
    try:
        return json.dumps(value, default=_shown)
    except TypeError:  # a key that JSON cannot have
        return json.dumps(_with_str_keys(value), default=_shown)


class Row:
    """One result row, in the forms that the files need, each made at most once.

    Args:
        raw: codec JSON without ``config``.
        at: when it was reported, seconds since the epoch.
        get_object: where the bytes of large arrays come from.
    """

    def __init__(
        self, raw: bytes | msgspec.Raw, at: float, get_object: GetObject | None = None
    ) -> None:
        self.at = at
        self._raw = bytes(raw)
        self._get_object = get_object

    @cached_property
    def values(self) -> dict[str, Any]:
        """The row in plain types."""
        value: dict[str, Any] = plain(self._raw, self._get_object)
        return value

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The row with ``a/b`` keys."""
        if any(type(value) is dict for value in self.values.values()):
            return flatten_dict(self.values)
        return self.values

    def line(self, config: bytes) -> bytes:
        """The row as a line of ``result.json``.

        Args:
            config: the trial's config as JSON.
        """
        # Stored JSON without tags is what everybody reads.
        data = to_json(self.values).encode() if b'"$"' in self._raw else self._raw
        comma = b"," if len(data) > 2 else b""
        return b'%b%b"config":%b}\n' % (data[:-1], comma, config)


def _with_str_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _with_str_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_str_keys(item) for item in value]
    return value


def _key(key: Any) -> str:
    """The text of a key; those that JSON knows are spelt as it does."""
    if type(key) is str or type(key) not in _KEYS:
        return str(key)
    return json.dumps(key)


def _shown(value: Any) -> Any:
    """What stands for a value that JSON does not know."""
    to_list = getattr(value, "tolist", None)
    return to_list() if to_list is not None else str(value)
