"""A table as text cells, and what of it fits into a given width."""

from __future__ import annotations

from dataclasses import dataclass, replace

from milepost.display.format import shorten

#: Characters between two columns on a terminal.
GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        weight: which columns stay when there is no room for all: higher ones.
        numeric: whether its cells are numbers, which stand to the right.
    """

    title: str
    weight: int
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text; ``more`` rows were left out."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0

    def widths(self) -> tuple[int, ...]:
        """Return the width of each column: that of its longest cell or heading."""
        return tuple(
            max([len(column.title), *(len(row[i]) for row in self.rows)])
            for i, column in enumerate(self.columns)
        )

    def pick(self, indices: list[int]) -> Table:
        """Return the same rows with only some columns."""
        return replace(
            self,
            columns=tuple(self.columns[i] for i in indices),
            rows=tuple(tuple(row[i] for i in indices) for row in self.rows),
        )

    def clip(self, width: int) -> Table:
        """Return the same table with no cell or heading longer than ``width``."""
        return replace(
            self,
            columns=tuple(replace(c, title=shorten(c.title, width)) for c in self.columns),
            rows=tuple(tuple(shorten(cell, width) for cell in row) for row in self.rows),
        )

    def filled(self) -> Table:
        """Return the table without columns that hold nothing."""
        return self.pick([i for i in range(len(self.columns)) if any(row[i] for row in self.rows)])

    def fit(self, width: int) -> Table:
        """Return what can be shown in ``width`` characters.

        Columns of the lowest weight go first (of equal ones, the rightmost); the last one left is
        cut with an ellipsis.
        """
        kept = list(range(len(self.columns)))
        widths = self.widths()
        while len(kept) > 1 and sum(widths[i] + GAP for i in kept) - GAP > width:
            kept.remove(min(kept, key=lambda i: (self.columns[i].weight, -i)))
        fitted = self.pick(kept)
        return fitted.clip(width) if len(kept) == 1 else fitted
