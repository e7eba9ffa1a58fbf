"""A picture as plain text, for files, pipes and terminals without cursor movement."""

from __future__ import annotations

from milepost.display.picture import Picture
from milepost.display.table import GAP, Table


def render(picture: Picture, *, width: int) -> str:
    """Return a picture as lines of text, none of its tables wider than ``width``."""
    label_width = max((len(label) for label, _ in picture.facts), default=0)
    blocks = [
        [picture.title, *(f"  {label:<{label_width}}  {text}" for label, text in picture.facts)],
        *(table_lines(table, width=width) for table in (picture.trials, picture.errors)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def table_lines(table: Table, *, width: int) -> list[str]:
    """Return a table as aligned lines, its heading underlined; nothing for an empty one."""
    if not table.rows:
        return []
    fitted = table.filled().fit(width)
    widths = fitted.widths()
    numeric = [column.numeric for column in fitted.columns]
    heading = tuple(column.title for column in fitted.columns)
    rule = tuple("-" * column_width for column_width in widths)
    lines = [
        (" " * GAP)
        .join(
            f"{cell:>{column_width}}" if right else f"{cell:<{column_width}}"
            for cell, column_width, right in zip(row, widths, numeric, strict=True)
        )
        .rstrip()
        for row in (heading, rule, *fitted.rows)
    ]
    return [*lines, f"... and {table.more} more"] if table.more else lines
