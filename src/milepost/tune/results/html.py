"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; every cell is escaped.

    Args:
        caption: shown above the table.
        head: column names; empty for a table without a header.
        rows: cells, shown by ``str``; floats with six digits.
    """
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell(value))}</td>' for value in row)}</tr>" for row in rows
    )
    return (
        f'<table class="milepost"><caption>{escape(caption)}</caption>'
        + (f"<thead><tr>{header}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table>"
    )


def cell(value: Any) -> str:
    """Return a value as short text: floats with six digits, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
