"""Notebook tables of config objects."""

from __future__ import annotations

from dataclasses import fields
from html import escape
from typing import Any


def config_table(config: Any) -> str:
    """Return an HTML table of a config dataclass: one row per public field."""
    rows = "".join(
        f"<tr><td>{escape(f.name)}</td><td><code>{escape(repr(getattr(config, f.name)))}</code>"
        "</td></tr>"
        for f in fields(config)
        if not f.name.startswith("_")
    )
    return (
        f"<table><caption>{escape(type(config).__name__)}</caption>"
        f"<thead><tr><th>Field</th><th>Value</th></tr></thead><tbody>{rows}</tbody></table>"
    )
