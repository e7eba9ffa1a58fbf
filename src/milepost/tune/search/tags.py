"""How search variables show in names of trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from milepost.tune.search.space import Path
from milepost.tune.search.variants import path_key

_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]+")
_OMITTED = ("run", "env", "resources_per_trial")


def tag_of(counter: int, resolved: Mapping[Path, Any]) -> str:
    """Return a trial's tag: its number, and its variables if it has any."""
    shown = format_vars(resolved)
    return f"{counter}_{shown}" if shown else str(counter)


def flat_params(resolved: Mapping[Path, Any]) -> dict[str, Any]:
    """Return variables by their flat name: ``{"model/layers": 3}``."""
    return {"/".join(map(str, path)): value for path, value in resolved.items()}


def format_vars(resolved: Mapping[Path, Any]) -> str:
    """Return variables as text: ``lr=0.0100,layers=3``, sorted by path, by their last name."""
    return ",".join(
        f"{_clean(path[-1])}={_clean(resolved[path])}" for path in sorted(resolved, key=path_key)
    )


def format_suggestion(config: Mapping[Path, Any]) -> str:
    """Return a flattened configuration as text, without what names the trial anyway."""
    return format_vars({path: v for path, v in config.items() if path[0] not in _OMITTED})


def _clean(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, float):
        return f"{value:.4f}"
    if not isinstance(value, str | int | bool | dict | list | tuple | type(None)):
        # The repr of an object holds its address, which would name each run's trials anew.
        value = getattr(value, "__name__", type(value).__name__)
    return _UNSAFE.sub("_", str(value)).strip("_")


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python value it stands for."""
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return value.item()
    return value
