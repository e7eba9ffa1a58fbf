"""What of a table fits into a width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.display.table import GAP, Column, Table


def table(*columns: Column, rows: int = 1, cell: str = "12345678") -> Table:
    return Table(columns, tuple(tuple(cell for _ in columns) for _ in range(rows)))


def titles(of: Table) -> list[str]:
    return [column.title for column in of.columns]


def test_the_least_important_columns_go_first() -> None:
    """Columns leave by weight, whatever their place."""
    wide = table(Column("a", 3), Column("b", 1), Column("c", 2))
    assert titles(wide.fit(28)) == ["a", "b", "c"]
    assert titles(wide.fit(27)) == ["a", "c"]
    assert titles(wide.fit(17)) == ["a"]


def test_of_equal_columns_the_rightmost_goes() -> None:
    """Among columns of one weight those further right leave first."""
    assert titles(table(Column("a", 1), Column("b", 1), Column("c", 1)).fit(20)) == ["a", "b"]


def test_long_texts_are_cut_before_a_column_goes() -> None:
    """A column of long texts shrinks, and takes up the room that is left."""
    errors = Table((Column("trial", 2), Column("error", 1, is_text=True)), (("t1", "x" * 80),))
    assert errors.fit(100) == errors
    (_, cut), *_ = errors.fit(40).rows
    assert cut == "x" * (40 - len("trial") - GAP - 1) + "…"


def test_the_last_column_is_cut_to_the_width() -> None:
    """Even one column never exceeds the width."""
    assert table(Column("a", 1)).fit(4).rows == (("123…",),)


def test_empty_columns_are_left_out() -> None:
    """A column without any cell is no column."""
    half = Table((Column("a", 1), Column("b", 1)), (("1", ""), ("2", "")))
    assert titles(half.filled()) == ["a"]


@given(
    weights=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    texts=st.data(),
    width=st.integers(1, 120),
)
def test_a_fitted_table_is_never_wider(
    weights: list[int], texts: st.DataObject, width: int
) -> None:
    """Whatever the cells, what is shown fits, and at least one column is shown."""
    cells = tuple(texts.draw(st.text("abc ", max_size=40)) for _ in weights)
    columns = tuple(Column(f"c{i}", w, is_text=w == 0) for i, w in enumerate(weights))
    fitted = Table(columns, (cells,)).fit(width)
    assert fitted.columns
    assert sum(w + GAP for w in fitted.widths()) - GAP <= width


@pytest.mark.parametrize(("width", "expected"), [(3, "12…"), (8, "12345678"), (1, "…")])
def test_clipping_marks_what_was_cut(width: int, expected: str) -> None:
    """A cut cell ends in an ellipsis and has exactly the limit's length."""
    assert table(Column("a", 1)).clip((width,)).rows == ((expected,),)
