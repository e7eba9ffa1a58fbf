"""Modules whose names are loaded when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

from milepost.api.available import missing


def attributes(
    module: str,
    origin: Mapping[str, str],
    parts: Collection[str] = (),
    advice: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a module.

    Args:
        module: its ``__name__``.
        origin: public name -> module that has it.
        parts: its submodules, imported when they are looked up.
        advice: what to do instead, for names that it does not have.
    """

    def get(name: str) -> Any:
        if name in origin:
            value = getattr(import_module(origin[name]), name)
            setattr(sys.modules[module], name, value)
            return value
        if name in parts:
            return import_module(f"{module}.{name}")
        raise missing(module, name, origin or parts, advice)

    return get, lambda: sorted({*origin, *parts})
