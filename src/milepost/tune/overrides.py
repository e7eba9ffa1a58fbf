"""Recorded configs with what a user gives anew when going on with an experiment."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, TypeVar

from milepost.api.config import Config, given_fields
from milepost.api.run_config import RunConfig
from milepost.tune.likeness import alike, plain_text
from milepost.tune.space_diff import Unloadable

C = TypeVar("C", bound=Config)

_PLACE = ("name", "storage_path", "storage_filesystem")
_LONGEST = 60


@dataclass
class Merged:
    """A recorded config with the fields that were given anew in their place.

    Attributes:
        fields: all fields by name, for the config's constructor; those of configs inside it are
            dicts.
        recorded: those that were recorded.
        replaced: a line for each field that was given and says something else than recorded, such
            as ``max_failures: 0 -> 3``, by the field's name.
        missing: those that are needed, cannot be had from the record and were not given.
    """

    fields: dict[str, Any]
    recorded: dict[str, Any]
    replaced: dict[str, str] = field(default_factory=dict)
    missing: dict[str, Unloadable] = field(default_factory=dict)


def merge(recorded: dict[str, Any], given: Config | None, kind: type[Config]) -> Merged:
    """Put what was given over what was recorded, field by field.

    A field counts as given when whoever made the config set it, be it to its default.

    Args:
        recorded: the recorded fields; :class:`Unloadable` stands for what cannot be had.
        given: a config of ``kind``, or None.
        kind: the class of the config.
    """
    merged = Merged(dict(recorded), recorded)
    for name in sorted(given_fields(given)) if given is not None else ():
        value = getattr(given, name)
        if name in kind._parts and value is not None:
            inner = merge(recorded.get(name) or {}, value, kind._parts[name])
            merged.fields[name] = inner.fields
            merged.replaced |= inner.replaced
            continue
        merged.fields[name] = value
        before = recorded.get(name, _default(kind, name))
        if not isinstance(before, Unloadable) and not alike(before, value):
            merged.replaced[name] = f"{name}: {_shown(before)} -> {_shown(value)}"
    for name, value in merged.fields.items():
        if isinstance(value, Unloadable):
            merged.missing[name] = value
    return merged


def made(kind: type[C], fields: dict[str, Any]) -> C:
    """Return a config with these fields; those of configs inside it are dicts."""
    whole = {
        name: kind._parts[name](**value)
        if name in kind._parts and isinstance(value, dict)
        else value
        for name, value in fields.items()
    }
    return kind(**whole)


def at_its_place(merged: Merged, given: RunConfig | None, path: str) -> dict[str, Any]:
    """Return the fields of a run config with name and storage path of an experiment's directory.

    Raises:
        ValueError: ``given`` names another place.
    """
    storage_path, name = os.path.split(path)
    named = given_fields(given) & {"name", "storage_path"} if given is not None else frozenset()
    if given is not None and named and not _fits(given, named, path, merged.recorded.get("name")):
        raise ValueError(
            f"The experiment is {path}, and its name and storage path are those of its directory; "
            f"RunConfig(name={given.name!r}, storage_path={given.storage_path!r}) says something "
            "else. Leave both out. To have it elsewhere, move the directory and restore it there."
        )
    fields = dict(merged.fields)
    for entry in _PLACE:
        fields.pop(entry, None)
        merged.replaced.pop(entry, None)
        merged.missing.pop(entry, None)
    return {**fields, "name": name, "storage_path": storage_path}


def _fits(given: RunConfig, named: frozenset[str], path: str, recorded_name: Any) -> bool:
    real = os.path.realpath(path)
    if "storage_path" not in named:
        return real.endswith(f"{os.sep}{given.name}")
    storage_path = os.path.realpath(str(given.storage_path))
    # A name may have slashes.
    names = (given.name,) if "name" in named else (os.path.basename(real), recorded_name)
    return any(os.path.join(storage_path, name) == real for name in names if name)


def _default(kind: type[Config], name: str) -> Any:
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if entry.name == name:
            return getattr(kind(), name)
    raise KeyError(name)


def _shown(value: Any) -> str:
    text = plain_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
