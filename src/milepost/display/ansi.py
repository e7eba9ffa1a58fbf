"""A picture for a colour terminal, and lines that cannot tear it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from milepost.display.picture import Picture
from milepost.display.table import GAP, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

_STATUS_STYLES = {"running": "cyan", "paused": "yellow", "ended": "green", "failed": "red"}
#: Escape sequences other than colours; moving the cursor would tear the table.
_MOVES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def harmless(text: str) -> str:
    """Return a worker's line as a terminal would show it, with colours but no cursor movement."""
    shown = next((part for part in reversed(text.split("\r")) if part.strip()), "")
    return _MOVES.sub("", shown).replace("\b", "").replace("\x07", "")


def render(now: Picture, *, width: int, is_live: bool) -> RenderableType:
    """Return a picture for rich, no wider than ``width``.

    Args:
        now: the picture.
        width: columns of the terminal.
        is_live: whether it is drawn over again: then each line stays one line, cut if need be.
    """
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    facts = Grid.grid(padding=(0, GAP, 0, 0))
    labels = max((len(label) for label, _ in now.facts), default=0)
    facts.add_column(style="dim", no_wrap=True, min_width=labels)
    facts.add_column(no_wrap=is_live, overflow="ellipsis" if is_live else "fold")
    for label, text in now.facts:
        facts.add_row(label, text)
    title = Text(now.title, style="bold", no_wrap=is_live, overflow="ellipsis")
    parts: list[RenderableType] = [title, facts]
    if now.trials.rows:
        parts += [Text(""), _grid(now.trials, width)]
    if now.errors.rows:
        parts += [Text(""), _grid(now.errors, width)]
    return Group(*parts)


def _grid(table: Table, width: int) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    fitted = table.filled().fit(width)
    grid = Grid(
        box=box.SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        header_style="",
    )
    for column in fitted.columns:
        grid.add_column(
            column.title,
            justify="right" if column.numeric else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in fitted.rows:
        grid.add_row(
            *(
                Text(cell, style=_STATUS_STYLES.get(cell, "") if title == "status" else "")
                for cell, title in zip(row, (c.title for c in fitted.columns), strict=True)
            )
        )
    if not table.more:
        return grid
    return Group(grid, Text(f"... and {table.more} more", style="dim"))
