"""A table as text cells, and what of it fits into a given width."""

from __future__ import annotations

from dataclasses import dataclass, replace

from milepost.display.format import shorten

#: A column of long texts is cut down to this width before any column is left out.
CUT = 16
#: Characters between two columns on a terminal.
GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        weight: which columns stay when there is no room for all: higher ones.
        numeric: whether its cells are numbers, which stand to the right.
        is_text: whether its cells are long texts, which may be cut.
    """

    title: str
    weight: int
    numeric: bool = False
    is_text: bool = False


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

    def clip(self, limits: tuple[int, ...]) -> Table:
        """Return the same table with no cell or heading longer than its column's limit."""
        return replace(
            self,
            columns=tuple(
                replace(column, title=shorten(column.title, limit))
                for column, limit in zip(self.columns, limits, strict=True)
            ),
            rows=tuple(
                tuple(shorten(cell, limit) for cell, limit in zip(row, limits, strict=True))
                for row in self.rows
            ),
        )

    def filled(self) -> Table:
        """Return the table without columns that hold nothing."""
        return self.pick([i for i in range(len(self.columns)) if any(row[i] for row in self.rows)])

    def fit(self, width: int) -> Table:
        """Return what can be shown in ``width`` characters.

        Long texts are cut first, down to ``CUT``. Then columns of the lowest weight go (of equal
        ones, the rightmost); the last one left is cut.
        """
        columns = self.columns
        widths = self.widths()
        least = [
            min(w, CUT) if column.is_text else w for column, w in zip(columns, widths, strict=True)
        ]
        kept = list(range(len(columns)))
        while len(kept) > 1 and sum(least[i] + GAP for i in kept) - GAP > width:
            kept.remove(min(kept, key=lambda i: (columns[i].weight, -i)))
        room = width + GAP - sum(least[i] + GAP for i in kept)
        limits = []
        for i in kept:
            more = min(max(room, 0), widths[i] - least[i])
            room -= more
            limits.append(least[i] + more)
        return self.pick(kept).clip(tuple(limits) if len(kept) > 1 else (min(limits[0], width),))
